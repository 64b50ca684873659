"""What users are called, in feedback and from devices: any language, one spelling, found again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from unicodedata import normalize

import pytest
import pytest_asyncio
from support.door import Door, open_door
from support.exports import record_export
from support.migrations import migrate

from core.clock import now_s
from core.database import Database
from core.errors import Invalid, NotFound
from core.identity.tenants import TenantStore
from core.ids import CompletionId, FeedbackId
from feedback.types import Feedback

NAMES = ["Zoë", "東京", "क्\u200dष"]


@pytest_asyncio.fixture
async def door(tmp_path: Path, database_url: str) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, database_url)
    yield opened
    await opened.runtime.stop()


async def test_a_users_feedback_is_found_by_any_spelling_of_the_name(door: Door) -> None:
    answer = "chatcmpl-" + door.runtime.signer.token(door.tenant("acme"))
    async with door.client("acme") as client:
        for name in NAMES:
            spellings = (normalize("NFC", name), normalize("NFD", name))
            for field, spelt in zip(("user", "end_user"), spellings, strict=True):
                said = {"completion_id": answer, "value": True, field: spelt}
                given = await client.post("/v1/feedback", json=said)
                assert given.json()["user"] == spellings[0]
            for spelt in spellings:
                listed = await client.get("/v1/feedback", params={"user": spelt})
                assert len(listed.json()["data"]) == 2
        both = {"completion_id": answer, "value": True, "user": spellings[0]}
        same = await client.post("/v1/feedback", json=both | {"end_user": spellings[1]})
        assert same.status_code == 201  # two spellings of one name do not differ


async def test_feedback_from_before_one_spelling_was_kept_is_given_it(door: Door) -> None:
    """As it was stored before migration 0010."""
    item = Feedback(
        FeedbackId("old"), door.tenant("acme"), now_s(), CompletionId("chatcmpl-1"), value=True,
        end_user=normalize("NFD", "Zoë"),
    )  # fmt: skip
    door.runtime.feedback.put(item)
    async with door.client("acme") as client:
        hidden = await client.get("/v1/feedback", params={"user": "Zoë"})
        assert hidden.json()["data"] == []
        migrate(door.runtime.database, "0009", back=True)
        door.runtime.database.upgrade()
        listed = await client.get("/v1/feedback", params={"user": "Zoë"})
        assert [found["id"] for found in listed.json()["data"]] == ["old"]
        other = await client.get("/v1/feedback", params={"user": "Zoe"})
        assert other.json()["data"] == []


async def test_a_device_may_name_its_users_in_any_language(door: Door) -> None:
    item = {
        "seq": 1, "type": "interaction", "id": f"edge-{1:024x}", "created_at": 1.7e9,
        "model_requested": "base", "model_answered": "base", "export_digest": "e" * 64,
        "messages": [{"role": "user", "content": "?"}], "answer": "!", "finish_reason": "stop",
        "user": normalize("NFD", "Zoë"), "domain": "東京", "conversation_id": "क्\u200dष",
    }  # fmt: skip
    evil = [
        item | {"seq": seq, "id": f"edge-{seq:024x}", field: "a\u202eb"}
        for seq, field in enumerate(("user", "domain", "conversation_id"), 2)
    ]
    record_export(door.runtime.database, door.tenant("acme"), "base", "e" * 64)
    async with door.client("acme") as client:
        sent = {"device": "d" * 32, "items": [item, *evil]}
        results = (await client.post("/v1/edge/sync", json=sent)).json()["results"]
    assert [result["status"] for result in results] == ["stored"] + ["rejected"] * 3
    assert [result["error"]["param"] for result in results[1:]] == [
        "user",
        "domain",
        "conversation_id",
    ]
    (kept,) = door.runtime.interactions.list(door.tenant("acme")).items
    assert (kept.end_user, kept.domain, kept.conversation_id) == ("Zoë", "東京", "क्\u200dष")


def test_a_keys_label_is_kept_as_it_was_given_or_refused(database: Database) -> None:
    store = TenantStore(database)
    tenant = store.create("acme")
    key, _ = store.create_key(tenant.id, frozenset({"inference"}), label="Büro 東京")
    (known,) = store.keys()
    assert [known.label] == ["Büro 東京"] == [key.label]
    for label in ("a\0", "\ud83d", "a\x1b[2J"):
        with pytest.raises(Invalid, match="label"):
            store.create_key(tenant.id, frozenset({"inference"}), label=label)
    for odd in ("東京", "\udcff"):
        with pytest.raises(NotFound):
            store.by_name(odd)
        with pytest.raises(NotFound):
            store.revoke_key(odd)
    for expires_at_s in (float("nan"), float("inf"), 1e15, -float("inf"), 0.0):
        with pytest.raises(Invalid, match="expiry"):
            store.create_key(tenant.id, frozenset({"inference"}), expires_at_s=expires_at_s)
    assert len(store.keys()) == 1
