"""The door keeps with each answer what the engine read and sampled for it, and for no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.asgi import DONE, Door, delta

from core.settings import Settings
from feedback.served import ServedChoice, unpack
from server.answers.served import COLLECTING, Collected


def engine(prompt: list[int] | None, *sampled: int) -> Callable[[], Awaitable[None]]:
    """An engine that reads the prompt and samples the tokens, in the context of the request."""

    async def answer() -> None:
        collected = COLLECTING.get()
        if collected is not None and (reading := collected.begin(prompt, 1)) is not None:
            await asyncio.sleep(0)
            reading.choices[0].token_ids.extend(sampled)
            reading.choices[0].finish_reason = "stop"

    return answer


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_stored_with_its_tokens(door: Door, stream: bool) -> None:
    door.vllm.before = engine([1, 2], 7, 8)
    door.vllm.chunks = [delta("Hello"), DONE] if stream else None
    await door.chat(stream=stream)
    (kept,) = door.recorded()
    assert kept.tokens is not None
    served = unpack(kept.tokens)
    assert (served.prompts, served.choices) == (((1, 2),), (ServedChoice(0, (7, 8), "stop"),))
    assert kept.response is None


async def test_requests_under_way_together_do_not_share_tokens(door: Door) -> None:
    numbers = iter(range(20))

    async def answer() -> None:
        number = next(numbers)
        await engine([number], number, number)()

    door.vllm.before = answer
    await asyncio.gather(*(door.chat() for _ in range(20)))
    served = [unpack(kept.tokens or b"") for kept in door.recorded()]
    assert sorted(each.prompts[0][0] for each in served) == list(range(20))
    assert all(each.choices[0].token_ids == each.prompts[0] * 2 for each in served)
    assert COLLECTING.get() is None


async def test_a_part_that_its_client_left_keeps_the_tokens_sampled_by_then(door: Door) -> None:
    door.vllm.before = engine([1, 2], 7)
    door.vllm.chunks, door.vllm.cut = [delta("Hel")], True
    await door.chat(stream=True)
    await asyncio.to_thread(door.runtime.recorder.close)
    (kept,) = door.recorded()
    assert kept.outcome == "cancelled"
    assert unpack(kept.tokens or b"").choices[0].token_ids == (7,)


async def test_an_answer_without_tokens_to_keep_says_why(door: Door) -> None:
    door.vllm.before = engine(None)
    await door.chat()
    (kept,) = door.recorded()
    assert (kept.tokens, kept.response) == (None, {"unfit": "multi_modal"})


@pytest.mark.parametrize(("said", "keeps"), [("off", False), ("on", True), ("0", False)])
def test_the_setting_is_a_word(monkeypatch: pytest.MonkeyPatch, said: str, keeps: bool) -> None:
    monkeypatch.setenv("ATTUNE_KEEP_TOKENS", said)
    assert Settings().keep_tokens is keeps


async def test_by_setting_no_tokens_are_kept(door: Door) -> None:
    seen: list[Collected | None] = []

    async def answer() -> None:
        seen.append(COLLECTING.get())
        await engine([1, 2], 7)()

    door.vllm.before = answer
    await door.chat()
    door.runtime.settings.keep_tokens = False
    await door.chat()
    with_them, without = door.recorded()
    assert (with_them.tokens is None, without.tokens) == (False, None)
    assert seen[0] is not None
    assert seen[1:] == [None]
