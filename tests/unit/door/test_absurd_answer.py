"""An answer whose adapter left its bounds: an error to the client, `failed` in the record."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from support.asgi import DONE, Door, delta

ENDS = {
    "/v1/chat/completions": [delta("Hel"), DONE],
    "/v1/completions": [b'data: {"choices":[{"index":0,"text":"Hel"}]}\n\n', DONE],
    "/v1/responses": [b'event: response.completed\ndata: {"type":"response.completed"}\n\n'],
    "/v1/messages": [b'event: message_stop\ndata: {"type":"message_stop"}\n\n'],
}


def state(door: Door, number: int) -> str:
    (adapter,) = door.runtime.registry.adapters(door.tenant.id)
    return door.runtime.registry.version(adapter.id, number).state


async def leave_bounds(door: Door, folder: Path) -> None:
    """A new live version that passed its trial, and now answers out of bounds."""
    engine_id = door.push("support", folder)
    await door.runtime.sync.refresh()
    door.engine.leave(engine_id)


async def asked(door: Door, path: str, *, stream: bool) -> bytes:
    body = {"model": "support@1", "messages": [], "input": "", "prompt": "", "stream": stream}
    return (await door.call(path, {**body, "max_tokens": 5})).body


async def test_an_answer_in_one_piece_is_withheld_with_the_reason(
    door: Door, tmp_path: Path
) -> None:
    await leave_bounds(door, tmp_path / "v1")
    reply = await door.chat("support")
    assert reply.status == 503
    assert reply.error["code"] == "absurd_weights"
    assert "'support@1' are absurd" in reply.error["message"]
    assert [kept.outcome for kept in door.recorded()] == ["failed"]


@pytest.mark.parametrize("path", ENDS)
async def test_a_stream_ends_with_an_error_event_in_place_of_its_end(
    door: Door, tmp_path: Path, path: str
) -> None:
    await leave_bounds(door, tmp_path / "v1")
    door.vllm.chunks = ENDS[path]
    body = await asked(door, path, stream=True)
    told = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")][-1]
    assert "are absurd" in json.loads(told)["error"]["message"]
    assert b"response.completed" not in body
    assert b"message_stop" not in body
    assert [kept.outcome for kept in door.recorded()] == ["failed"]


async def test_the_version_is_quarantined_with_its_reason_and_the_one_before_answers(
    door: Door, tmp_path: Path
) -> None:
    door.push("support", tmp_path / "v1")
    await leave_bounds(door, tmp_path / "v2")
    assert (await door.chat("support")).status == 503
    assert state(door, 2) == "quarantined"
    shown = await door.call("/v1/adapters/support", method="GET")
    newest = json.loads(shown.body)["history"][0]
    assert (newest["version"], newest["previous"], newest["actor"]) == (1, 2, "server")
    assert newest["reason"].startswith("quarantined: version 2. The weights of 'support@2' are")
    await door.runtime.sync.refresh()
    reply = await door.chat("support")
    assert (reply.status, reply.headers[b"x-attune-version"]) == (200, b"support@1")
    pinned = await door.chat("support@2")
    assert (pinned.status, pinned.error["code"]) == (409, "quarantined")


async def test_a_client_that_left_saves_no_version_from_quarantine(
    door: Door, tmp_path: Path
) -> None:
    await leave_bounds(door, tmp_path / "v1")
    door.vllm.chunks, door.vllm.cut = [delta("Hel")], True
    await door.chat("support", stream=True)
    async with asyncio.timeout(10):
        while state(door, 1) != "quarantined":
            await asyncio.sleep(0.01)


async def test_answers_of_the_base_ask_nothing(door: Door) -> None:
    door.engine.has_left_bounds = None  # type: ignore[method-assign,assignment]
    assert (await door.chat("base")).status == 200


async def test_absurd_weights_are_refused_before_they_are_a_version(
    door: Door, tmp_path: Path
) -> None:
    door.engine.absurd = lambda path: True
    adapter = door.runtime.registry.create(door.tenant.id, "support")
    folder = tmp_path / "v1"
    reply = await door.upload("support", folder)
    assert reply.status == 400
    assert (reply.error["param"], reply.error["code"]) == ("file", "absurd_weights")
    assert "'support' are absurd" in reply.error["message"]
    assert door.runtime.registry.versions(adapter.id) == []


async def test_what_passes_its_trial_is_a_version(door: Door, tmp_path: Path) -> None:
    adapter = door.runtime.registry.create(door.tenant.id, "support")
    assert (await door.upload("support", tmp_path / "v1")).status == 201
    assert len(door.engine.tried) == 1
    states = [version.state for version in door.runtime.registry.versions(adapter.id)]
    assert states == ["live"]


async def test_a_version_that_fails_its_trial_at_load_is_quarantined(
    door: Door, tmp_path: Path
) -> None:
    door.push("support", tmp_path / "v1")
    await door.runtime.sync.refresh()
    door.engine.absurd = lambda path: True
    door.push("support", tmp_path / "v2", fill=2.0)
    await door.runtime.sync.refresh()
    async with asyncio.timeout(10):
        while state(door, 2) != "quarantined":
            await asyncio.sleep(0.01)
    await door.runtime.sync.refresh()
    assert (await door.chat("support")).headers[b"x-attune-version"] == b"support@1"
