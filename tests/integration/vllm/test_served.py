"""What is noted at vLLM's `generate`, by vLLM's own types: its outputs pass unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest
from vllm import CompletionOutput, RequestOutput, SamplingParams
from vllm.inputs.engine import embeds_input, mm_input, tokens_input
from vllm.sampling_params import RequestOutputKind

from feedback.served import Served, ServedChoice
from server.answers.served import COLLECTING, Collected
from server.vllm import served

PROMPT = [5, 6, 7]


def output(*choices: tuple[int, Sequence[int], str | None], stop: Any = None) -> RequestOutput:
    return RequestOutput(
        "r",
        None,
        PROMPT,
        None,
        [
            CompletionOutput(
                index, "", ids, None, None, finish_reason=why, stop_reason=stop if why else None
            )
            for index, ids, why in choices
        ],
        finished=False,
    )


class Client:
    """As much of vLLM's client as is wrapped: it answers with the outputs it is given."""

    def __init__(self, *outputs: RequestOutput) -> None:
        self.outputs = outputs
        self.asked: list[tuple[Any, ...]] = []
        self.ended = asyncio.Event()

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        self.asked.append((prompt, sampling_params, request_id, options))
        try:
            for one in self.outputs:
                yield one
        finally:
            self.ended.set()


@pytest.fixture
def collected() -> Iterator[Collected]:
    collecting = COLLECTING.set(wanted := Collected(batches=True))
    yield wanted
    COLLECTING.reset(collecting)


def asked(client: Any, kind: RequestOutputKind, n: int = 1, prompt: Any = None) -> Any:
    params = SamplingParams(n=n, temperature=1.0, output_kind=kind)
    return client.generate(prompt or tokens_input(PROMPT), params, "r", lora_request=None)


async def test_new_tokens_add_up_and_outputs_pass_as_they_are(collected: Collected) -> None:
    outputs = [
        output((0, [1], None)),
        output((1, [2, 3], None)),
        output((0, [4], "stop")),
        output((1, [], "length")),
    ]
    client = Client(*outputs)
    served.install(client)
    passed = [each async for each in asked(client, RequestOutputKind.DELTA, n=2)]
    assert len(passed) == 4
    assert all(now is then for now, then in zip(passed, outputs, strict=True))
    assert collected.served() == Served(
        (tuple(PROMPT),), (ServedChoice(0, (1, 4), "stop"), ServedChoice(0, (2, 3), "length"))
    )
    (_, _, request_id, options) = client.asked[0]
    assert (request_id, options) == ("r", {"lora_request": None})


@pytest.mark.parametrize("kind", [RequestOutputKind.CUMULATIVE, RequestOutputKind.FINAL_ONLY])
async def test_whole_tokens_replace_those_before(
    collected: Collected, kind: RequestOutputKind
) -> None:
    """vLLM's list goes on growing: what was noted must not grow with it."""
    growing = [1]
    client = Client(output((0, growing, None)), output((0, [1, 2], "stop"), stop="x"))
    served.install(client)
    outputs = asked(client, kind)
    await anext(outputs)
    growing.append(99)
    assert collected.served() == Served((tuple(PROMPT),), (ServedChoice(0, (1,)),))
    assert [each async for each in outputs] == [client.outputs[1]]
    assert collected.served() == Served((tuple(PROMPT),), (ServedChoice(0, (1, 2), "stop", "x"),))


async def test_a_batch_is_noted_in_the_order_of_its_prompts_and_by_tasks_of_any_order(
    collected: Collected,
) -> None:
    client = Client(output((0, [9], "stop")))
    served.install(client)
    batch = [asked(client, RequestOutputKind.DELTA) for _ in range(2)]

    async def last_first() -> None:
        for outputs in reversed(batch):
            assert await anext(outputs) is client.outputs[0]

    await asyncio.create_task(last_first())
    noted = collected.served()
    assert noted is not None
    assert [choice.prompt for choice in noted.choices] == [0, 1]


async def test_who_leaves_ends_the_engines_work_at_once(collected: Collected) -> None:
    client = Client(output((0, [1], None)), output((0, [2], "stop")))
    served.install(client)
    outputs = asked(client, RequestOutputKind.DELTA)
    await anext(outputs)
    await outputs.aclose()
    assert client.ended.is_set()
    assert collected.served() == Served((tuple(PROMPT),), (ServedChoice(0, (1,)),))


async def test_what_nobody_collects_is_not_touched() -> None:
    client = Client(output((0, [1], "stop")))
    inner = client.generate
    served.install(client)
    outputs = asked(client, RequestOutputKind.DELTA)
    assert outputs.__qualname__ == inner.__qualname__
    assert [each async for each in outputs] == [client.outputs[0]]
    COLLECTING.set(Collected())
    assert asked(client, RequestOutputKind.DELTA).__qualname__ != inner.__qualname__
    COLLECTING.set(None)


@pytest.mark.parametrize(
    "prompt",
    [mm_input(PROMPT, {}, {"image": ["h"]}, {"image": []}), embeds_input(None)],  # type: ignore[arg-type]
    ids=["images", "embeddings"],
)
async def test_a_prompt_that_is_more_than_tokens_is_unfit(
    collected: Collected, prompt: Any
) -> None:
    client = Client(output((0, [1], "stop")))
    served.install(client)
    outputs = asked(client, RequestOutputKind.DELTA, prompt=prompt)
    assert [each async for each in outputs] == [client.outputs[0]]
    assert (collected.served(), collected.unfit) == (None, "multi_modal")
