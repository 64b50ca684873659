"""`POST /v1/judgements`: judgements made elsewhere are answers and feedback like any others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from support.door import Door, open_door

from adapters.types import Adapter
from core.ids import FeedbackId
from feedback.learning.judgement import anything_fits
from feedback.learning.reading import read_feedback
from feedback.types import Learnable
from trainer.runs.watch import Watch

pytestmark = pytest.mark.slow


class World:
    """A server with one adapter, and what it could learn."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.adapter: Adapter = door.adapter("acme", "support")

    async def send(self, *rows: Any, kind: str = "pairs", **fields: Any) -> httpx.Response:
        body = {"adapter": "support", "kind": kind, "rows": list(rows), **fields}
        scopes = fields.pop("scopes", ("train",))
        body.pop("scopes", None)
        async with self.door.client("acme", *scopes) as client:
            return await client.post("/v1/judgements", json=body)

    async def sent(self, *rows: Any, **fields: Any) -> list[str]:
        response = await self.send(*rows, **fields)
        assert response.status_code == 200, response.text
        results = response.json()["results"]
        assert [result["row"] for result in results] == list(range(len(rows)))
        return [result["status"] for result in results]

    def learnt(self) -> Learnable:
        store = self.door.runtime.feedback
        return read_feedback(store, self.adapter, anything_fits, newest=10_000)


@pytest_asyncio.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    door = await open_door(tmp_path, database_url)
    yield World(door)
    await door.runtime.stop()


def pair(n: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Which {n}?", "chosen": "This.", "rejected": "That.", **more}


def label(n: int, good: bool, **more: Any) -> dict[str, Any]:
    return {"prompt": f"What {n}?", "completion": "This.", "label": good, **more}


async def test_pairs_are_learnt_as_pairs(world: World) -> None:
    assert await world.sent(*(pair(n) for n in range(5))) == ["stored"] * 5
    learnt = world.learnt()
    assert (len(learnt.pairs), learnt.labels, learnt.dropped) == (5, (), {})
    first = min(learnt.pairs, key=lambda one: str(one.prompt))
    assert first.prompt == ({"role": "user", "content": "Which 0?"},)
    assert (first.chosen, first.rejected, first.version) == ("This.", "That.", None)


async def test_labels_are_learnt_as_labels(world: World) -> None:
    rows = [label(n, n % 2 == 0) for n in range(6)]
    assert await world.sent(*rows, kind="labels") == ["stored"] * 6
    learnt = world.learnt()
    assert sorted(one.desirable for one in learnt.labels) == [False] * 3 + [True] * 3
    assert learnt.dropped == {}


async def test_texts_to_go_on_from_stay_texts(world: World) -> None:
    await world.sent({"chosen": "The sky is blue.", "rejected": "The sky is green."})
    await world.sent(pair(1), plain=True)
    assert {one.prompt for one in world.learnt().pairs} == {"The sky is", "Which 1?"}


async def test_the_same_row_again_changes_nothing_whoever_sends_it(world: World) -> None:
    """In one call, in another, in another form, with another key."""
    asked = [{"role": "user", "content": "Which 1?"}]
    same = {"prompt": asked, "chosen": "This.", "rejected": "That."}
    assert await world.sent(pair(1), pair(1), pair(2)) == ["stored", "already_stored", "stored"]
    assert await world.sent(same, pair(2)) == ["already_stored"] * 2
    async with world.door.client("acme") as client:
        found = (await client.get("/v1/feedback")).json()["data"]
    assert len(found) == 2
    assert len(world.learnt().pairs) == 2


async def test_rows_by_themselves_are_voices_of_their_own(world: World) -> None:
    """Or a file of thousands would be cut to half of what else is said in a shared adapter."""
    await world.sent(*(pair(n) for n in range(20)))
    await world.sent(*(pair(n, user="ann") for n in range(20, 30)))
    learnt = world.learnt()
    assert (len(learnt.pairs), learnt.dropped) == (30, {})
    assert {one.end_user for one in learnt.pairs if one.end_user == "ann"} == {"ann"}
    await world.sent(*(pair(n, user="ann") for n in range(30, 80)))
    assert world.learnt().dropped["over_user_share"] > 0


async def test_rows_that_disagree_are_settled_like_any_votes(world: World) -> None:
    await world.sent(label(1, True), label(1, False), kind="labels")
    learnt = world.learnt()
    assert (learnt.labels, learnt.dropped) == ((), {"contradicted": 2})


async def test_a_bad_row_is_refused_alone(world: World) -> None:
    response = await world.send(pair(1), {"prompt": "x"}, [], pair(2, chosen="That."), pair(3))
    results = response.json()["results"]
    assert [one["status"] for one in results] == ["stored", *["rejected"] * 3, "stored"]
    errors = [one["error"] for one in results if one["status"] == "rejected"]
    assert [error["param"] for error in errors] == ["chosen", None, "rejected"]
    assert len(world.learnt().pairs) == 2


async def test_a_dry_run_stores_nothing(world: World) -> None:
    assert await world.sent(pair(1), {}, dryrun=True) == ["valid", "rejected"]
    assert world.learnt() == Learnable((), (), {})
    assert await world.sent(pair(1)) == ["stored"]  # it would have been seen


async def test_what_was_imported_expires_and_is_erased_like_all_feedback(world: World) -> None:
    await world.sent(pair(1), pair(2))
    async with world.door.client("acme") as client:
        (one, _) = (await client.get("/v1/feedback?adapter=support")).json()["data"]
        assert one["source"]["id"].startswith("import-")
        assert (await client.delete(f"/v1/feedback/{one['id']}")).status_code == 200
    assert len(world.learnt().pairs) == 1
    expiring = replace(world.adapter.learning, expire_after_s=0.0)
    world.adapter = world.door.runtime.registry.set_learning(world.adapter.id, expiring)
    assert world.learnt().dropped == {"expired": 1}


async def test_enough_imported_pairs_open_a_run(world: World) -> None:
    await world.sent(*(pair(n) for n in range(31)))
    watch = Watch(world.door.runtime.database, rest=0.0)
    watch.open_due_runs()
    ledger = world.door.runtime.work["runs"].ledger
    assert ledger.active() == []
    await world.sent(pair(31))
    watch.open_due_runs()
    (run,) = ledger.active()
    assert run.facts.trigger == "32 new; 0 up, 0 down, 32 pairs"


async def test_a_call_is_refused_as_a_whole_for_what_concerns_all_of_it(world: World) -> None:
    expected = {
        404: {"adapter": "unknown"},
        400: {"kind": "thumbs"},
    }
    for status, fields in expected.items():
        assert (await world.send(pair(1), **fields)).status_code == status
    many = await world.send(*(pair(n) for n in range(101)))
    assert (many.status_code, many.json()["error"]["code"]) == (400, "too_many_items")
    assert (await world.send()).status_code == 400
    assert (await world.send(pair(1), adapter="a\0b")).status_code == 400
    assert (await world.send(pair(1), plain="yes")).status_code == 400
    assert (await world.send(pair(1), scopes=("feedback",))).status_code == 403
    assert world.learnt().pairs == ()


async def test_another_tenants_adapter_does_not_exist(world: World) -> None:
    body = {"adapter": "support", "kind": "pairs", "rows": [pair(1)]}
    async with world.door.client("other", "train") as client:
        assert (await client.post("/v1/judgements", json=body)).status_code == 404
    assert world.learnt().pairs == ()


async def test_a_hundred_rows_of_some_length_are_one_call(world: World) -> None:
    rows = [pair(n, chosen="x" * 15_000, rejected="y" * 15_000) for n in range(100)]
    assert await world.sent(*rows) == ["stored"] * 100
    assert len(world.learnt().pairs) == 100


async def test_an_imported_answer_can_be_judged_again(world: World) -> None:
    """Its id is one this installation issued, as an answer of the adapter."""
    await world.sent(pair(1))
    (one,) = world.learnt().pairs
    item = world.door.runtime.feedback.get(world.adapter.tenant_id, FeedbackId(one.feedback_ids[0]))
    assert item.comparison is not None
    thumb = {"completion_id": item.comparison.rejected[0], "value": False}
    async with world.door.client("acme") as client:
        response = await client.post("/v1/feedback", json=thumb)
    assert response.json()["teaches"] == ["label"]
