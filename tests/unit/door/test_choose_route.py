"""Which weights answer, and what the engine is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from support.asgi import Door

from adapters.types import Learning


async def test_the_engine_sees_its_names_and_the_client_chooses_no_id(
    door: Door, tmp_path: Path
) -> None:
    door.push("support", tmp_path / "a")
    headers = [(b"x-request-id", b"chosen"), (b"content-length", b"20")]
    body = {"model": "support", "messages": [], "request_id": "chosen"}
    reply = await door.call("/v1/chat/completions", body, headers=headers)
    _, seen, asked = door.vllm.asked[0]
    completion_id = reply.headers[b"x-request-id"].decode()
    assert asked["model"] == f"{door.tenant.id}/support@1"
    assert asked["cache_salt"] == door.tenant.id
    assert seen[b"x-request-id"].decode() == completion_id.removeprefix("chatcmpl-") != "chosen"
    assert int(seen[b"content-length"]) == len(json.dumps(asked, separators=(",", ":")))
    assert door.runtime.signer.issued_to(completion_id, door.tenant.id)
    assert reply.headers[b"x-attune-version"] == b"support@1"
    (kept,) = door.recorded()
    assert (kept.id, kept.version, kept.model_answered) == (completion_id, 1, "support@1")
    assert (kept.model_requested, kept.answers, kept.outcome) == (
        "support",
        ("Hello",),
        "completed",
    )


async def test_an_unknown_model_and_another_tenants_read_the_same(
    door: Door, tmp_path: Path
) -> None:
    door.push("secret", tmp_path / "a")
    stranger = door.new_key("inference", tenant="stranger")
    messages = []
    for name in ("secret", "nobody", "secret@1", "nobody@1"):
        body = {"model": name, "messages": []}
        reply = await door.call("/v1/chat/completions", body, key=stranger)
        assert reply.status == 404
        messages.append(reply.error["message"].replace(name, "*"))
    assert len(set(messages)) == 1
    assert door.vllm.asked == []


async def test_a_version_pushed_a_moment_ago_answers_at_once(door: Door, tmp_path: Path) -> None:
    door.push("support", tmp_path / "a")
    assert (await door.chat("support")).headers[b"x-attune-version"] == b"support@1"
    door.push("support", tmp_path / "b", fill=2.0)
    await door.runtime.sync.refresh()
    assert (await door.chat("support")).headers[b"x-attune-version"] == b"support@2"
    assert (await door.chat("support@1")).headers[b"x-attune-version"] == b"support@1"


async def test_a_version_whose_weights_are_gone_is_unavailable_not_unknown(
    door: Door, tmp_path: Path
) -> None:
    engine_id = door.push("support", tmp_path / "a")
    (version,) = door.runtime.registry.versions()
    assert version.engine_id == engine_id
    weights = door.runtime.artifacts.folder(version.digest) / "adapter_model.safetensors"
    weights.unlink()
    reply = await door.chat("support@1")
    assert reply.status == 503
    assert door.recorded() == []


async def test_many_who_ask_at_once_for_an_adapter_just_made_are_all_answered(door: Door) -> None:
    """None of them may be told that it does not exist while one looks."""
    await door.runtime.sync.refresh()
    door.runtime.registry.create(door.tenant.id, "fresh", learning=Learning())
    replies = await asyncio.gather(*(door.chat("fresh") for _ in range(60)))
    assert {reply.status for reply in replies} == {200}
