"""A domain or a user in any language meets the adapter that was made for it, however spelt."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import pytest
import sqlalchemy as sa
from support.asgi import Door

from adapters import tables

NAMES = ["münchen", "東京", "क्\u200dषेत्र", "한국", "👩\u200d👩\u200d👧"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scope", ["domain", "user"])
async def test_an_adapter_for_a_name_answers_to_every_spelling_of_it(
    door: Door, tmp_path: Path, name: str, scope: str
) -> None:
    sent = {"name": "own", "scope": scope, "subject": normalize("NFD", name)}
    made = await door.call("/v1/adapters", sent | {"learning": {"exploration": 0.0}})
    assert made.status == 201, made.body
    door.push("own", tmp_path / "a")
    await door.runtime.sync.refresh()
    for spelt in (normalize("NFC", name), normalize("NFD", name)):
        assert await answered_by(door, scope, spelt) == {b"own@1"}
    assert await answered_by(door, scope, name + "x") == {b"town"}
    assert {kept.domain or kept.end_user for kept in door.recorded()} == {
        normalize("NFC", name),
        normalize("NFC", name) + "x",
    }


async def test_an_adapter_named_before_one_spelling_was_kept_is_found(
    door: Door, tmp_path: Path
) -> None:
    door.runtime.registry.create(door.tenant.id, "old", scope="domain", subject="münchen")
    door.push("old", tmp_path / "a")
    decomposed = tables.adapters.update().values(
        subject=normalize("NFD", "münchen"),
        learning=sa.func.json_set(tables.adapters.c.learning, "$.exploration", 0.0),
    )
    with door.runtime.database.write() as connection:
        connection.execute(decomposed)
    await door.runtime.sync.refresh()
    assert await answered_by(door, "domain", "münchen") == {b"old@1"}


async def test_latin_1_in_a_header_is_refused_and_not_guessed_at(door: Door) -> None:
    headers = [(b"x-attune-domain", "münchen".encode("latin-1"))]
    body = {"model": "auto", "messages": []}
    reply = await door.call("/v1/chat/completions", body, headers=headers)
    assert (reply.status, reply.error["param"]) == (400, "X-Attune-Domain")
    assert "UTF-8" in reply.error["message"]
    assert door.vllm.asked == []


async def answered_by(door: Door, scope: str, name: str) -> set[bytes]:
    """Who answers for the name, wherever a request may say it."""
    body = {"model": "auto", "messages": []}
    if scope == "user":
        ways = [
            ({"user": name}, []),
            ({"safety_identifier": name}, []),
            ({"metadata": {"user_id": name}}, []),
        ]
    else:
        ways = [
            ({"metadata": {"domain": name}}, []),
            ({}, [(b"x-attune-domain", name.encode())]),
        ]
    return {
        (await door.call("/v1/chat/completions", body | more, headers=headers)).headers[
            b"x-attune-version"
        ]
        for more, headers in ways
    }
