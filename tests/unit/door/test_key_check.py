"""Whose request it is."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from support.asgi import Door

from core.identity.types import SCOPES, Scope
from server.door.gateway import Gateway
from server.own_route import OwnRoute


@pytest.mark.parametrize("key", ["", "x", "sk-at-aaaaaaaaaaaa-" + "a" * 48, "é", "Bearer x"])
async def test_without_a_key_of_ours_nothing_is_asked_or_told(door: Door, key: str) -> None:
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/feedback", "/tokenize"):
        reply = await door.call(path, {"model": "base"}, key=key)
        assert reply.status == 401
    assert door.vllm.asked == []


async def test_a_key_works_the_moment_it_is_made_and_dies_with_its_revocation(door: Door) -> None:
    key = door.new_key("inference")
    body = {"model": "base", "messages": []}
    assert (await door.call("/v1/chat/completions", body, key=key)).status == 200
    door.runtime.tenants.revoke_key(key)
    await door.runtime.sync.refresh()
    assert (await door.call("/v1/chat/completions", body, key=key)).status == 401


async def test_anthropics_key_header_opens_too(door: Door) -> None:
    headers = [(b"x-api-key", door.key.encode())]
    body = {"model": "base", "messages": []}
    door.vllm.document = {"content": [{"type": "text", "text": "Hi"}]}
    assert (await door.call("/v1/messages", body, key="", headers=headers)).status == 200


@pytest.mark.parametrize("scope", SCOPES)
async def test_inference_needs_its_scope(door: Door, scope: Scope) -> None:
    reply = await door.call(
        "/v1/chat/completions", {"model": "base", "messages": []}, key=door.new_key(scope)
    )
    assert reply.status == (200 if scope in ("inference", "admin") else 403)


async def test_while_the_database_is_away_known_keys_work_and_others_are_asked_to_wait(
    door: Door, tmp_path: Path
) -> None:
    await door.runtime.sync.refresh()
    unknown = door.new_key("inference")
    for database in (door.runtime.database, door.runtime.own_database):
        database.dispose()
    (tmp_path / "attune.db").rename(tmp_path / "away.db")
    (tmp_path / "attune.db").mkdir()
    body = {"model": "base", "messages": []}
    assert (await door.call("/tokenize", body)).status == 200
    assert (await door.call("/tokenize", body, key=unknown)).status == 503
    assert (await door.call("/tokenize", {**body, "model": "nobody"})).status == 503


@pytest.mark.parametrize("takes_basic", [True, False])
async def test_basic_authentication_opens_only_the_routes_that_say_so(
    door: Door, takes_basic: bool
) -> None:
    """Its password is the key; the name before it is anybody's choice."""
    models = OwnRoute(
        "/v1/models", re.compile(r"^/v1/models$"), frozenset({"GET"}), takes_basic=takes_basic
    )
    door.gateway = Gateway(door.vllm, lambda: door.runtime, [models])

    async def status(authorization: bytes) -> int:
        headers = [(b"authorization", authorization)]
        return (await door.call("/v1/models", method="GET", key="", headers=headers)).status

    for password, opens in ((door.key, True), ("sk-at-wrong", False), ("", False)):
        basic = b"Basic " + base64.b64encode(f"pk-name:{password}".encode())
        assert await status(basic) == (200 if opens and takes_basic else 401)
    for odd in (b"Basic", b"Basic !", b"Basic a", b"Basic \xff", b"basic bm8tY29sb24="):
        assert await status(odd) == 401
