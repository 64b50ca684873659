"""Notes what vLLM 0.32 reads and samples, at the one place every answer passes: the engine
client's `generate`.

All four endpoints end there, once for each prompt. What is noted belongs to the request in whose
context the call is made. Relies on `RequestOutput` (`prompt_token_ids`, `outputs`), on
`CompletionOutput` (`index`, `token_ids`, `finish_reason`, `stop_reason`), on `output_kind` and `n`
of the sampling parameters, and on the `type` of a rendered prompt; tests/integration/vllm pins
them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from vllm import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from server.answers.served import COLLECTING, Reading


def install(engine_client: Any) -> None:
    """Have every later `generate` of this client noted where somebody collects."""
    generate = engine_client.generate

    def noted(
        prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        # Not a generator itself: the context, and the order of a batch, are those of the call.
        outputs: AsyncGenerator[RequestOutput, None] = generate(
            prompt, sampling_params, request_id, **options
        )
        if (collected := COLLECTING.get()) is None:
            return outputs
        reading = collected.begin(_tokens(prompt), sampling_params.n)
        if reading is None:
            return outputs
        adds = sampling_params.output_kind is RequestOutputKind.DELTA
        return _noting(outputs, reading, adds=adds)

    engine_client.generate = noted


def _tokens(prompt: Any) -> Sequence[int] | None:
    """The ids of a rendered prompt that is nothing but tokens."""
    if prompt["type"] != "token":  # images, embeddings, an encoder's input
        return None
    ids: Sequence[int] = prompt["prompt_token_ids"]
    return ids


async def _noting(
    outputs: AsyncGenerator[RequestOutput, None], reading: Reading, *, adds: bool
) -> AsyncGenerator[RequestOutput, None]:
    """The outputs as they are. `adds`: each has only the tokens that are new; else all of them."""
    choices = reading.choices
    async with aclosing(outputs):  # a client that leaves ends the engine's work at once
        async for output in outputs:
            if output.prompt_token_ids is not None:
                reading.prompt = output.prompt_token_ids
            for one in output.outputs:
                choice = choices[one.index]
                if adds:
                    choice.token_ids.extend(one.token_ids)
                else:
                    choice.token_ids = list(one.token_ids)
                if one.finish_reason is not None:
                    choice.finish_reason = one.finish_reason
                    choice.stop_reason = one.stop_reason
            yield output
