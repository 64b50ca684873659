"""Answers on their way out: passed on as they come, durable before their last bytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest
from support.asgi import DONE, USAGE, Door, Reply, delta, until

from feedback.types import Interaction
from server.answers.recorder import Recorder


class Held:
    """An append that waits to be let go, or fails."""

    def __init__(
        self, door: Door, error: Exception | None = None, *, give_up_s: float = 10.0
    ) -> None:
        self.go, self.error = threading.Event(), error
        self._append = door.runtime.interactions.append
        self._former = door.runtime.recorder
        self._former.close()
        door.runtime.recorder = Recorder(self.append, give_up_s=give_up_s)

    def append(self, batch: Sequence[Interaction]) -> None:
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        self._append(batch)


async def test_an_error_of_the_engine_passes_and_is_no_interaction(door: Door) -> None:
    door.vllm.status, door.vllm.document = 400, {"error": {"message": "too long"}}
    reply = await door.chat()
    assert reply.status == 400
    assert b"too long" in reply.body
    assert b"x-attune-version" not in reply.headers
    assert door.recorded() == []


async def test_a_stream_is_passed_on_as_it_comes_and_recorded(door: Door) -> None:
    door.vllm.chunks = [delta("Hel"), delta("lo"), DONE]
    reply = await door.chat(stream=True)
    assert reply.body == delta("Hel") + delta("lo") + DONE
    assert reply.headers[b"x-attune-version"] == b"town"
    (kept,) = door.recorded()
    assert (kept.answers, kept.outcome, kept.version) == (("Hello",), "completed", None)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_last_bytes_wait_for_the_commit(door: Door, stream: bool) -> None:
    held = Held(door)
    reply = Reply()
    door.vllm.chunks = [delta("Hello"), DONE] if stream else None
    body = {"model": "base", "messages": [], "stream": stream}
    task = asyncio.create_task(door.call("/v1/chat/completions", body, reply=reply))
    if stream:
        await until(lambda: delta("Hello") in reply.body)
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert b"[DONE]" not in reply.body
    assert reply.body == (delta("Hello") if stream else b"")
    assert not task.done()
    held.go.set()
    await task
    assert (DONE if stream else b"Hello") in reply.body
    assert len(door.recorded()) == 1


async def test_a_whole_answer_that_cannot_be_stored_is_withheld(door: Door) -> None:
    Held(door, OSError("disk full"), give_up_s=0.05).go.set()
    reply = await door.chat()
    assert reply.status == 503
    assert b"Hello" not in reply.body


async def test_a_stream_that_cannot_be_stored_breaks_before_its_end(door: Door) -> None:
    """No second start is sent, no end: the server closes the connection, the client notices."""
    Held(door, OSError("disk full"), give_up_s=0.05).go.set()
    door.vllm.chunks = [delta("Hello"), DONE]
    reply = Reply()
    body = {"model": "base", "messages": [], "stream": True}
    with pytest.raises(Exception, match="could not be stored"):
        await door.call("/v1/chat/completions", body, reply=reply)
    assert len(reply.starts) == 1
    assert reply.body == delta("Hello")
    assert all(m.get("more_body") for m in reply.messages[1:])


@pytest.mark.parametrize("parting", ["returns", "is cancelled"])
async def test_a_client_that_leaves_midway_leaves_the_part_it_got(door: Door, parting: str) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    tail: list[Callable[[], Awaitable[None]]] = [cancelled] if parting == "is cancelled" else []
    door.vllm.chunks, door.vllm.cut = [delta("Hel"), delta("lo"), *tail], True
    task = asyncio.create_task(door.chat(stream=True))
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(door.runtime.recorder.close)
    (kept,) = door.recorded()
    assert (kept.outcome, kept.answers) == ("cancelled", ("Hello",))


async def test_an_answer_that_quotes_the_end_is_recorded_whole(door: Door) -> None:
    said = ["Say data: [DONE]\n\n", "data: [DONE]", '{"choices":[],"usage":{"x":1}}', " bye"]
    door.vllm.chunks = [*(delta(text) for text in said), DONE]
    reply = await door.chat(stream=True)
    assert reply.body == b"".join(door.vllm.chunks)
    (kept,) = door.recorded()
    assert kept.answers == ("".join(said),)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("packed", [True, False])
async def test_token_counts_are_kept_always_and_shown_when_asked_for(
    door: Door, asked: bool, packed: bool
) -> None:
    """`packed`: the last events come in one piece; only the counts may be taken out of it."""
    tail = [delta("lo") + USAGE + DONE] if packed else [delta("lo"), USAGE, DONE]
    door.vllm.chunks = [delta("Hel"), *tail]
    options = {"stream_options": {"include_usage": True}} if asked else {}
    reply = await door.chat(stream=True, **options)
    assert reply.body == delta("Hel") + delta("lo") + (USAGE if asked else b"") + DONE
    assert door.vllm.asked[0][2]["stream_options"]["include_usage"] is True
    (kept,) = door.recorded()
    assert (kept.prompt_tokens, kept.completion_tokens) == (3, 2)
    assert (kept.outcome, kept.answers) == ("completed", ("Hello",))
