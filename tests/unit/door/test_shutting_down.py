"""A server told to stop: nobody new is let in, answers end, the rest is told and recorded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.asgi import DONE, Door, delta

from core.work.workers import Workers

BODY: dict[str, Any] = {"model": "base", "messages": [], "prompt": "", "input": ""}
BEGUN = {
    "/v1/chat/completions": delta("Hel"),
    "/v1/completions": b'data: {"choices":[{"index":0,"text":"Hel"}]}\n\n',
    "/v1/responses": b'data: {"type":"response.output_text.delta","delta":"Hel"}\n\n',
    "/v1/messages": b'data: {"type":"content_block_delta","delta":{"text":"Hel"}}\n\n',
}


class Held:
    """Where an answer waits."""

    def __init__(self) -> None:
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.began.set()
        await self.go.wait()


async def under_way(door: Door, path: str, *chunks: Any, **body: Any) -> tuple[Any, Held]:
    """A request that is being answered, and what it waits for."""
    held = Held()
    door.vllm.chunks = [*chunks, held, DONE]
    task = asyncio.create_task(door.call(path, {**BODY, **body}))
    await held.began.wait()
    return task, held


async def test_new_requests_are_refused_and_the_connection_closed(door: Door) -> None:
    assert (await door.chat()).status == 200
    door.runtime.under_way.close()
    for path, body in (("/v1/chat/completions", BODY), ("/v1/feedback", {}), ("/tokenize", BODY)):
        reply = await door.call(path, body)
        assert (reply.status, reply.error["code"]) == (503, "shutting_down")
        assert reply.headers[b"connection"] == b"close"
        assert reply.headers[b"retry-after"] == b"1"
    assert len(door.vllm.asked) == 1


async def test_an_answer_that_ends_in_time_is_whole(door: Door) -> None:
    task, held = await under_way(door, "/v1/chat/completions", delta("Hello"), stream=True)
    door.runtime.under_way.close()
    assert not door.runtime.under_way._empty.is_set()
    held.go.set()
    reply = await task
    await asyncio.wait_for(door.runtime.under_way.empty(), 5)
    assert reply.body == delta("Hello") + DONE
    (kept,) = door.recorded()
    assert (kept.outcome, kept.answers) == ("completed", ("Hello",))


@pytest.mark.parametrize("path", BEGUN)
async def test_a_stream_that_does_not_ends_with_an_error_event_of_its_endpoint(
    door: Door, path: str
) -> None:
    task, _ = await under_way(door, path, BEGUN[path], stream=True)
    door.runtime.under_way.close()
    assert door.runtime.under_way.cut_off() == 1
    reply = await task
    assert reply.status == 200
    rest = reply.body.removeprefix(BEGUN[path])
    (data,) = [line for line in rest.splitlines() if line.startswith(b"data: {")]
    event = json.loads(data.removeprefix(b"data: "))
    assert "shutting down" in event["error"]["message"]
    assert reply.messages[-1]["more_body"] is False
    if path in ("/v1/responses", "/v1/messages"):
        assert rest.startswith(b"event: error\n")
        assert event["type"] == "error"
    (kept,) = door.recorded()
    assert (kept.outcome, kept.answers) == ("failed", ("Hel",))
    assert kept.response == {"error": "shutting_down"}


WORDS = {"/v1/messages": "overloaded_error"}  # Anthropic's


@pytest.mark.parametrize("path", BEGUN)
async def test_an_answer_in_one_piece_that_does_not_is_a_503_and_recorded(
    door: Door, path: str
) -> None:
    held = Held()
    door.vllm.before = held
    task = asyncio.create_task(door.call(path, BODY))
    await held.began.wait()
    door.runtime.under_way.close()
    door.runtime.under_way.cut_off()
    reply = await task
    told = reply.error["type"] if path == "/v1/messages" else reply.error["code"]
    assert (reply.status, told) == (503, WORDS.get(path, "shutting_down"))
    assert [kept.outcome for kept in door.recorded()] == ["failed"]


async def test_who_waits_for_an_adapter_or_to_be_read_is_told_too(
    door: Door, tmp_path: Any
) -> None:
    door.push("support", tmp_path / "v1")
    began, _ = door.engine.hold()
    waiting = asyncio.create_task(door.chat("support@1"))
    await began.wait()
    counting = Held()
    door.vllm.before = counting
    tokens = asyncio.create_task(door.call("/tokenize", {"model": "base", "prompt": "a"}))
    await counting.began.wait()
    door.runtime.under_way.close()
    assert door.runtime.under_way.cut_off() == 2
    for task in (waiting, tokens):
        assert (await task).status == 503
    assert door.recorded() == []


async def test_an_answer_that_only_waits_for_its_commit_is_not_cut_off(door: Door) -> None:
    go = asyncio.Event()
    commit, begun = door.runtime.recorder.commit, asyncio.Event()

    async def slow(build: Any) -> None:
        begun.set()
        await go.wait()
        await commit(build)

    door.runtime.recorder.commit = slow  # type: ignore[method-assign]
    door.vllm.chunks = [delta("Hello"), DONE]
    task = asyncio.create_task(door.chat(stream=True))
    await begun.wait()
    door.runtime.under_way.close()
    door.runtime.under_way.cut_off()
    go.set()
    assert (await task).body == delta("Hello") + DONE
    assert [kept.outcome for kept in door.recorded()] == ["completed"]


async def test_a_client_that_goes_meanwhile_is_not_taken_for_one_cut_off(door: Door) -> None:
    task, _ = await under_way(door, "/v1/chat/completions", delta("Hel"), stream=True)
    door.runtime.under_way.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    await asyncio.to_thread(door.runtime.recorder.close)
    assert [kept.outcome for kept in door.recorded()] == ["cancelled"]
    assert door.runtime.under_way.cut_off() == 0


async def health(door: Door, query: bytes = b"", **call: Any) -> tuple[int, Any]:
    reply = await door.call("/health", method="GET", key="", query=query, **call)
    return reply.status, json.loads(reply.body)


async def test_health_turns_red_at_once(door: Door) -> None:
    assert await health(door) == (200, {"status": "ok"})
    task, held = await under_way(door, "/v1/chat/completions", delta("Hello"), stream=True)
    door.runtime.under_way.close()
    assert await health(door) == (503, {"status": "draining"})
    assert (await door.call("/ping", method="GET", key="")).status == 503
    held.go.set()
    await task


async def test_health_tells_of_a_dead_engine(door: Door) -> None:
    door.engine.dead = True
    assert await health(door) == (503, {"status": "engine dead"})


@pytest.mark.parametrize("query", [b"verbose", b"verbose=1", b"verbose=true"])
async def test_verbose_health_tells_of_every_part(door: Door, query: bytes) -> None:
    status, told = await health(door, query)
    assert status == 200
    assert told == {
        "status": "ok",
        "engine": "ok",
        "database": "ok",
        "trainer": {"status": "starting", "seen_s_ago": None, "message": None},
    }
    assert await health(door, b"verbose=0") == (200, {"status": "ok"})


async def test_verbose_health_tells_of_a_trainer_and_its_trouble(door: Door) -> None:
    workers = Workers(door.runtime.database)
    door.runtime.vitals._interval_s = 0.01
    workers.looked("local")
    await until_trainer(door, "ok")
    workers.in_trouble("local", "Move the file away.")
    await until_trainer(door, "in trouble")
    told = (await health(door, b"verbose"))[1]["trainer"]
    assert told["message"] == "Move the file away."
    assert told["seen_s_ago"] is not None


async def until_trainer(door: Door, status: str) -> None:
    async with asyncio.timeout(10):
        while door.runtime.vitals.trainer.status != status:
            await asyncio.sleep(0.01)


async def test_a_database_that_does_not_answer_is_told_and_answers_go_on(door: Door) -> None:
    door.runtime.vitals._look = lambda: 1 / 0  # type: ignore[assignment,return-value]
    async with asyncio.timeout(10):
        while door.runtime.vitals.database_ok:
            await asyncio.sleep(0.01)
    status, told = await health(door, b"verbose")
    assert (status, told["status"], told["database"]) == (200, "ok", "unreachable")
    assert told["trainer"]["status"] == "unknown"
