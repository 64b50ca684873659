"""What devices are promised: every item once, whoever else is refused, and learning sees it."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.door import Door, open_door
from support.exports import record_export
from support.stored import count, stored_answer

from core.database import Database
from core.errors import AttuneError, Unavailable
from core.work.ledger import Ledger
from feedback.history import Wanted
from feedback.putting import Said, Stored
from feedback.served import ServedChoice, unpack
from feedback.tables import feedback, interactions
from feedback.writer import FeedbackWriter
from trainer.runs.watch import Watch
from trainer.types import RUN

pytestmark = pytest.mark.slow

DEVICE = "d" * 32


@pytest_asyncio.fixture
async def door(tmp_path: Path, database_url: str) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, database_url)
    for tenant in ("acme", "other"):
        for model in ("support@1", "base"):
            record_export(opened.runtime.database, opened.tenant(tenant), model, "e" * 64)
    yield opened
    await opened.runtime.stop()


def answer(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "seq": 2 * number,
        "type": "interaction",
        "id": f"edge-{number:024x}",
        "created_at": 1_700_000_000.5 + number,
        "model_requested": "support",
        "model_answered": "support@1",
        "adapter": "support",
        "version": 1,
        "export_digest": "e" * 64,
        "messages": [{"role": "user", "content": f"Where is house {number}?"}],
        "answer": f"By the river, number {number}.",
        "finish_reason": "stop",
        "user": "ann",
        "domain": None,
        "conversation_id": None,
        "sampling": {"temperature": 0.7, "max_tokens": 64},
        "prompt_tokens": 9,
        "completion_tokens": 7,
        "first_token_ms": 3.5,
        "duration_ms": 20,
        **changes,
    }


def thumb(number: int, value: bool = True, **changes: Any) -> dict[str, Any]:
    return {
        "seq": 2 * number + 1,
        "type": "feedback",
        "id": f"fb_{number:024x}",
        "completion_id": f"edge-{number:024x}",
        "created_at": 1_700_000_100.0 + number,
        "value": value,
        "name": "thumb",
        **changes,
    }


async def send(client: Any, items: list[Any], device: str = DEVICE) -> list[dict[str, Any]]:
    response = await client.post("/v1/edge/sync", json={"device": device, "items": items})
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["object"] == "edge.sync"
    assert [result["seq"] for result in body["results"]] == [item.get("seq") for item in items]
    return list(body["results"])


def reasons(results: list[dict[str, Any]]) -> list[str | None]:
    return [(result.get("error") or {}).get("message") for result in results]


async def test_500_answers_with_thumbs_sent_over_and_over_arrive_once_and_are_learnt_from(
    door: Door, tmp_path: Path
) -> None:
    """Random calls, items doubled within and among them, thumbs often before their answer."""
    adapter = door.adapter("acme", "support", new_items=400, min_labels=300)
    door.version(adapter, tmp_path / "v1", live=True)
    rng = random.Random(1)
    items = [made for n in range(500) for made in (answer(n), thumb(n, n % 3 > 0))]
    todo = items + rng.choices(items, k=300)
    rng.shuffle(todo)
    statuses: list[str] = []
    async with door.client("acme", "feedback") as client:
        while todo:
            call, todo = todo[:197], todo[197:]
            statuses += [result["status"] for result in await send(client, call)]
    assert (statuses.count("stored"), statuses.count("already_stored")) == (1000, 300)
    tenant = door.tenant("acme")
    assert count(door.runtime.database, interactions, tenant) == 500
    assert count(door.runtime.database, feedback, tenant) == 500
    news = door.runtime.feedback.news(adapter.id, 0)
    assert news is not None
    assert news.count == 500
    database = Database(door.runtime.database.url)
    Watch(database).open_due_runs()
    runs = Ledger(database, RUN).active()
    database.dispose()
    assert [run.adapter_id for run in runs] == [adapter.id]
    assert runs[0].facts.trigger.startswith("500 new; 333 up, 167 down")


async def test_an_answer_is_stored_with_what_gave_it(door: Door, tmp_path: Path) -> None:
    adapter = door.adapter("acme", "support")
    door.version(adapter, tmp_path / "v1")
    async with door.client("acme", "feedback") as client:
        (result,) = await send(client, [answer(1, created_at=time.time() + 9e5)])
    stored = stored_answer(door.runtime.database, result["id"])
    assert stored.model_answered == "support@1"
    assert (stored.adapter_id, stored.version, stored.outcome) == (adapter.id, 1, "completed")
    assert stored.request == {
        "edge": {"device": DEVICE, "export_digest": "e" * 64, "id": f"edge-{1:024x}"}
    }
    assert stored.answers == ("By the river, number 1.",)
    assert stored.prompt == ({"role": "user", "content": "Where is house 1?"},)
    assert stored.created_at_s <= time.time()
    assert (stored.end_user, stored.duration_ms, stored.prompt_tokens) == ("ann", 20.0, 9)


async def test_an_answer_brings_the_tokens_it_was_read_from_and_sampled_as(
    door: Door, tmp_path: Path
) -> None:
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    ids = {"prompt_token_ids": [1, 70_000, 3], "token_ids": [9, 2]}
    counts = {"prompt_tokens": 3, "completion_tokens": 2}
    bare = dict.fromkeys(counts)
    sent = [
        answer(1, **ids, **counts),
        answer(2, **ids, **bare, finish_reason="length"),
        answer(3, **ids, **bare, finish_reason="cancelled"),
        answer(4),  # of a device that does not know of tokens
        answer(5, prompt_token_ids=None, token_ids=None),
    ]
    async with door.client("acme", "feedback") as client:
        results = await send(client, sent)
    assert reasons(results) == [None] * 5
    stored = [stored_answer(door.runtime.database, result["id"]).tokens for result in results]
    told = [unpack(tokens) for tokens in stored if tokens is not None]
    assert stored[3:] == [None, None]
    assert [served.prompts for served in told] == [((1, 70_000, 3),)] * 3
    assert [served.choices for served in told] == [
        (ServedChoice(0, (9, 2), reason),) for reason in ("stop", "length", None)
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"token_ids": None}, "token_ids"),
        ({"prompt_token_ids": None}, "prompt_token_ids"),
        ({"prompt_token_ids": []}, "prompt_token_ids"),
        ({"prompt_tokens": 4}, "prompt_tokens"),
        ({"completion_tokens": 0}, "completion_tokens"),
        ({"token_ids": [-1, 2]}, "token_ids"),
        ({"token_ids": [2**31, 2]}, "token_ids"),
        ({"token_ids": [True, 2]}, "token_ids"),
        ({"token_ids": ["9", 2]}, "token_ids"),
        ({"token_ids": [1.5, 2]}, "token_ids"),
        ({"token_ids": "92"}, "token_ids"),
        ({"token_ids": [1] * 262_145, "completion_tokens": 262_145}, "token_ids"),
    ],
)
async def test_tokens_that_cannot_be_are_refused_by_name(
    door: Door, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    whole = {
        "prompt_token_ids": [1, 2, 3],
        "token_ids": [9, 2],
        "prompt_tokens": 3,
        "completion_tokens": 2,
    }
    sent = [answer(1, **{**whole, **changes}), answer(2, **whole)]
    async with door.client("acme", "feedback") as client:
        refused, good = await send(client, sent)
    assert good["status"] == "stored"
    assert refused["status"] == "rejected"
    assert refused["error"]["param"].partition(".")[0] == named


async def test_feedback_over_the_usual_endpoint_may_name_a_synced_answer(
    door: Door, tmp_path: Path
) -> None:
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    async with door.client("acme", "feedback") as client:
        (result,) = await send(client, [answer(1)])
        said = {"completion_id": result["id"], "value": False}
        assert (await client.post("/v1/feedback", json=said)).status_code == 201
    async with door.client("other", "feedback") as client:
        assert (await client.post("/v1/feedback", json=said)).status_code == 404


async def test_two_devices_and_two_tenants_never_share_an_answer(
    door: Door, tmp_path: Path
) -> None:
    for name in ("acme", "other"):
        door.version(door.adapter(name, "support"), tmp_path / name)
    ids = set()
    for name in ("acme", "other"):
        async with door.client(name, "feedback") as client:
            for device in ("a" * 32, "b" * 32):
                (result,) = await send(client, [answer(1)], device)
                assert result["status"] == "stored"
                ids.add(result["id"])
    assert len(ids) == 4


async def test_the_newest_word_under_an_id_counts(door: Door, tmp_path: Path) -> None:
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    async with door.client("acme", "feedback") as client:
        assert (await send(client, [answer(1), thumb(1)]))[1]["status"] == "stored"
        changed = thumb(1, False, created_at=1_700_000_900)
        assert (await send(client, [changed]))[0]["status"] == "stored"
        # A copy of the first that was held up on its way changes nothing.
        assert (await send(client, [thumb(1)]))[0]["status"] == "already_stored"
        stored = (await client.get(f"/v1/feedback/{thumb(1)['id']}")).json()
    assert stored["value"] is False


async def test_two_devices_that_choose_one_id_do_not_silence_each_other(
    door: Door, tmp_path: Path
) -> None:
    """Clients of two devices may both call their first thumb `fb-1`."""
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    async with door.client("acme", "feedback") as client:
        (first,) = await send(client, [thumb(1, id="fb-1", created_at=5.0)], device="a" * 32)
        for at_s in (4.0, 6.0):
            (second,) = await send(
                client, [thumb(2, False, id="fb-1", created_at=at_s)], device="b" * 32
            )
            assert second["status"] == "rejected"
    kept = door.runtime.feedback.get(door.tenant("acme"), first["id"])
    assert kept.value is True


async def test_a_bad_item_is_refused_and_the_others_stay(door: Door, tmp_path: Path) -> None:
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    bad: list[Any] = [
        answer(10, id="chatcmpl-1"),
        answer(11, version=2, model_answered="support@2"),
        answer(12, adapter="nobodys", model_answered="nobodys@1"),
        answer(13, adapter=None),
        answer(14, model_answered="support@9"),
        answer(15, messages=[]),
        answer(16, answer=None),
        answer(17, export_digest="short"),
        answer(18, created_at="yesterday"),
        answer(19, answer="nul \0"),
        answer(20, sampling={"x": "y" * 5000}),
        thumb(21, completion_id="chatcmpl-" + "0" * 40),
        thumb(22, value="sideways"),
        thumb(23, id=None),
        thumb(24, created_at=-1),
        {"seq": 99, "type": "diary"},
        {"type": "interaction"},
    ]
    async with door.client("acme", "feedback") as client:
        results = await send(client, [answer(1), *bad, thumb(1)])
    assert results[0]["status"] == results[-1]["status"] == "stored"
    refused = results[1:-1]
    assert {result["status"] for result in refused} == {"rejected"}
    for result in refused:
        assert set(result["error"]) == {"message", "type", "param", "code"}
        assert result["error"]["message"].endswith(".")
        assert result["error"]["type"] in ("invalid_request_error", "not_found_error")
    assert count(door.runtime.database, interactions, door.tenant("acme")) == 1
    assert count(door.runtime.database, feedback, door.tenant("acme")) == 1


async def test_an_item_that_is_no_object_is_refused_alone(door: Door) -> None:
    async with door.client("acme", "feedback") as client:
        response = await client.post("/v1/edge/sync", json={"device": DEVICE, "items": [7, None]})
    assert [r["status"] for r in response.json()["results"]] == ["rejected"] * 2


async def test_numbers_and_nesting_without_measure_cost_their_item_alone(
    door: Door, tmp_path: Path
) -> None:
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    nested: list[Any] = []
    for _ in range(900):
        nested = [nested]
    items = [
        thumb(1, created_at=10**400),
        answer(2, created_at=10**400),
        answer(3, sampling={"stop": nested}),
        answer(4),
    ]
    async with door.client("acme", "feedback") as client:
        results = await send(client, items)
    assert [result["status"] for result in results] == ["rejected"] * 3 + ["stored"]


async def test_an_answer_told_again_as_another_adapters_teaches_nobody(
    door: Door, tmp_path: Path
) -> None:
    adapter = door.adapter("acme", "support")
    door.version(adapter, tmp_path / "v1")
    base = answer(1, adapter=None, version=None, model_requested="base", model_answered="base")
    async with door.client("acme", "feedback") as client:
        await send(client, [base, thumb(1), answer(1)])
        await send(client, [answer(1)])
        assert door.runtime.feedback.news(adapter.id, 0) is None
        await send(client, [answer(2), thumb(2)])
    news = door.runtime.feedback.news(adapter.id, 0)
    assert news is not None
    assert news.count == 1


async def test_another_tenants_adapter_reads_like_one_that_does_not_exist(
    door: Door, tmp_path: Path
) -> None:
    door.version(door.adapter("other", "support"), tmp_path / "v1")
    async with door.client("acme", "feedback") as client:
        foreign = reasons(await send(client, [answer(1)]))
        absent = reasons(
            await send(client, [answer(1, adapter="nothing", model_answered="nothing@1")])
        )
    assert all(foreign)
    assert [text and text.replace("support", "nothing") for text in foreign] == absent
    assert count(door.runtime.database, interactions, door.tenant("acme")) == 0


async def test_an_answer_cut_short_is_kept_but_not_learnt_from(door: Door, tmp_path: Path) -> None:
    adapter = door.adapter("acme", "support")
    door.version(adapter, tmp_path / "v1")
    async with door.client("acme", "feedback") as client:
        await send(client, [answer(1, finish_reason="cancelled"), thumb(1)])
    kept = door.runtime.interactions.list(door.tenant("acme"), Wanted(outcome="cancelled"))
    assert len(kept.items) == 1
    assert door.runtime.feedback.news(adapter.id, 0) is None


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"device": "me", "items": []}, 400, "device"),
        ({"items": []}, 400, "device"),
        ({"device": DEVICE}, 400, "items"),
        ({"device": DEVICE, "items": [{}] * 201}, 400, "items"),
        ({"device": DEVICE, "items": [], "more": 1}, 400, "more"),
    ],
)
async def test_a_call_out_of_form_is_refused_whole(
    door: Door, body: dict[str, Any], status: int, param: str
) -> None:
    async with door.client("acme", "feedback") as client:
        response = await client.post("/v1/edge/sync", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def busy(_: Sequence[Said]) -> Sequence[Stored | AttuneError]:
    raise Unavailable("The database is busy.")


async def test_a_database_out_of_reach_refuses_the_call_and_no_item(
    door: Door, tmp_path: Path
) -> None:
    """An item that is rejected is never sent again; a call that was refused is."""
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    door.runtime.feedback_writer.close()
    door.runtime.feedback_writer = FeedbackWriter(busy)
    async with door.client("acme", "feedback") as client:
        body = {"device": DEVICE, "items": [answer(1), thumb(1)]}
        response = await client.post("/v1/edge/sync", json=body)
    assert response.status_code == 503


async def test_a_call_over_the_limit_is_refused_with_the_limit(door: Door) -> None:
    async with door.client("acme", "feedback") as client:
        response = await client.post(
            "/v1/edge/sync", json={"device": DEVICE, "items": [], "x": "y" * 4_000_001}
        )
    assert response.status_code == 413
    assert "bytes" in response.json()["error"]["message"]


async def test_a_wrong_key_or_scope_stores_nothing(door: Door, tmp_path: Path) -> None:
    door.version(door.adapter("acme", "support"), tmp_path / "v1")
    body = {"device": DEVICE, "items": [answer(1)]}
    async with door.client("acme", "inference") as client:
        assert (await client.post("/v1/edge/sync", json=body)).status_code == 403
        wrong = {"authorization": f"Bearer sk-at-{'a' * 12}-{'b' * 48}"}
        refused = await client.post("/v1/edge/sync", json=body, headers=wrong)
        assert refused.status_code == 401
    assert count(door.runtime.database, interactions, door.tenant("acme")) == 0
