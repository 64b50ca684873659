"""What an adapter could learn from, as HTTP tells it: the same as a run's snapshot would hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.door import Door, open_door

from adapters.types import Adapter
from core.clock import now_s
from core.ids import CompletionId, FeedbackId
from core.work.workers import Workers
from feedback.learning.datasets import freeze, register
from feedback.learning.judgement import anything_fits
from feedback.learning.reading import read_feedback
from feedback.types import Comparison, Feedback, Interaction
from trainer.runs.telling import Teller
from trainer.runs.watch import Watch
from trainer.types import Check, GateLimits, Interval, RunFacts, Verdict

pytestmark = pytest.mark.slow


class World:
    """One adapter of a tenant, what is said of it, and a trainer that answers when it is let."""

    def __init__(self, door: Door) -> None:
        self.door, self.database = door, door.runtime.database
        self.adapter: Adapter = door.adapter("acme", "support", min_labels=8, min_minority=2)
        self.watch = Watch(self.database, rest=0.0)
        self.teller = Teller(self.database, self.watch.readings, GateLimits())
        self.made = 0

    def answer(self, text: str | None = None, prompt: str | None = None) -> Interaction:
        self.made += 1
        made = Interaction(
            *(CompletionId(f"c{self.made}"), self.adapter.tenant_id, "chat.completions", 1.0),
            *("completed", "support", "base", self.adapter.id, None, False),
            prompt=({"role": "user", "content": prompt or f"Question {self.made}"},),
            answers=(text or f"Answer {self.made}",),
            finish_reason="stop",
        )
        self.door.runtime.interactions.append([made])
        return made

    def say(self, about: Interaction, **fields: Any) -> Feedback:
        self.made += 1
        user = fields.pop("end_user", f"user {self.made}")
        said = {"completion_id": about.id, **fields}
        item = Feedback(
            FeedbackId(f"f{self.made}"), self.adapter.tenant_id, now_s(), end_user=user, **said
        )
        self.door.runtime.feedback.put(item)
        return item

    def mixture(self) -> None:
        """Something of each kind, and something left out for most reasons."""
        for n in range(6):
            self.say(self.answer(), value=n % 3 == 0)
        disputed = self.answer()
        self.say(disputed, value=True, end_user="ann")
        self.say(disputed, value=False, end_user="bob")
        self.say(self.answer(), comment="Hm.")
        self.say(self.answer(), name="score", value=4.0, end_user="ann")
        self.say(self.answer(" "), value=True)
        self.say(self.answer(), correction="Better.")
        good, bad = self.answer("Good", "Which?"), self.answer("Bad", "Which?")
        compared = Comparison(good.id, (bad.id,))
        self.say(good, completion_id=None, comparison=compared)

    async def shown(self) -> dict[str, Any]:
        async with self.door.client("acme") as client:
            response = await client.get("/v1/adapters/support/learning")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def looked(self) -> dict[str, Any]:
        """What is shown once a trainer has looked."""
        asked = self.door.runtime.looks.ask(self.adapter.id)
        self.teller.answer()
        assert self.door.runtime.looks.of(self.adapter.id).answered_s == asked
        return await self.shown()


@pytest_asyncio.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    door = await open_door(tmp_path, database_url)
    yield World(door)
    await door.runtime.stop()


async def test_without_a_look_nothing_is_known_but_what_came(world: World) -> None:
    world.say(world.answer(), value=True)
    shown = await world.shown()
    assert (shown["as_of"], shown["known"], shown["missing"]) == (None, None, None)
    assert shown["said_since"] == 1
    assert shown["left_out"] == []
    assert "ask again" in shown["message"]


async def test_counts_and_reasons_are_those_of_a_snapshot(world: World) -> None:
    world.mixture()
    shown = await world.looked()
    snapshot = read_feedback(
        world.door.runtime.feedback, world.adapter, anything_fits, newest=100_000
    )
    ups = sum(label.desirable for label in snapshot.labels)
    assert shown["known"] == {
        "labels_up": ups,
        "labels_down": len(snapshot.labels) - ups,
        "pairs": len(snapshot.pairs),
        "new_items": 8,
    }
    assert (ups, len(snapshot.labels), len(snapshot.pairs)) == (2, 6, 2)
    left_out = {one["reason"]: one["count"] for one in shown["left_out"]}
    assert left_out == snapshot.dropped
    assert left_out == {"contradicted": 2, "comment": 1, "too_few_scores": 1, "empty_answer": 1}
    assert all(one["note"].endswith(".") for one in shown["left_out"])
    lacks = shown["missing"]
    assert {name: lacks[name] for name in ("labels", "up", "down", "pairs")} == {
        "labels": 2,
        "up": 0,
        "down": 0,
        "pairs": 14,
    }
    assert lacks["new_items"] == 24
    assert shown["said_since"] == 0


async def test_what_was_taken_back_is_known_no_more(world: World) -> None:
    item = world.say(world.answer(), value=True)
    assert (await world.looked())["known"]["labels_up"] == 1
    world.door.runtime.feedback.delete(world.adapter.tenant_id, item.id)
    assert (await world.looked())["known"]["labels_up"] == 0


async def test_what_came_since_a_look_is_counted(world: World) -> None:
    await world.looked()
    for _ in range(3):
        world.say(world.answer(), value=True)
    shown = await world.shown()
    assert (shown["known"]["labels_up"], shown["said_since"]) == (0, 3)


async def test_an_adapter_that_does_not_learn_is_counted_all_the_same(world: World) -> None:
    world.say(world.answer(), value=True)
    off = replace(world.adapter.learning, enabled=False)
    world.door.runtime.registry.set_learning(world.adapter.id, off)
    shown = await world.looked()
    assert shown["known"]["labels_up"] == 1
    assert shown["message"].startswith("Learning is off")


async def test_settings_count_at_once(world: World) -> None:
    world.mixture()
    await world.looked()
    changed = replace(world.adapter.learning, min_labels=6, new_items=8)
    world.door.runtime.registry.set_learning(world.adapter.id, changed)
    shown = await world.shown()
    assert shown["missing"]["labels"] == shown["missing"]["new_items"] == 0


async def test_a_run_under_way_and_the_last_verdict_are_shown(world: World) -> None:
    """50 labels are the judgements of a margin on 10 items: low is over 0, so that 67 items are
    enough: 335 judgements."""
    runs = world.door.runtime.work["runs"].ledger
    facts = RunFacts("t", 0, None, None)
    thumbs = [world.say(world.answer(), value=n % 2 == 0) for n in range(50)]
    assert len(thumbs) == 50
    found = read_feedback(world.door.runtime.feedback, world.adapter, anything_fits, newest=1_000)
    frozen = freeze(world.adapter.id, found.labels, found.pairs, found.dropped, 0.2)
    register(world.database, frozen, "blob")
    verdict = Verdict(False, (Check("c", False, "d"),), Interval(2.0, 1.0, 3.0, 10))
    judged, _ = runs.open(
        world.adapter.tenant_id, world.adapter.id, facts, adapter_id=world.adapter.id
    )
    runs.finish(judged.id, "rejected", verdict=verdict, snapshot_digest=frozen.digest)
    shown = await world.looked()
    assert shown["run"] is None
    assert shown["last_run"]["id"] == judged.id
    assert shown["effect"] == {"mean": 2.0, "low": 1.0, "high": 3.0, "n": 10} | {
        "more_judgements": 285
    }
    active, _ = runs.open(
        world.adapter.tenant_id, world.adapter.id, facts, adapter_id=world.adapter.id
    )
    shown = await world.looked()
    assert shown["run"]["id"] == active.id
    assert shown["message"] == f"Run {active.id} is under way (queued)."
    assert shown["last_run"]["id"] == judged.id


async def test_why_the_last_run_failed_is_told(world: World) -> None:
    runs = world.door.runtime.work["runs"].ledger
    facts = RunFacts("t", 0, None, None)
    run, _ = runs.open(
        world.adapter.tenant_id, world.adapter.id, facts, adapter_id=world.adapter.id
    )
    assert "failed" not in (await world.looked())["message"]
    runs.finish(run.id, "failed", error="There is nothing to learn from.")
    told = (await world.looked())["message"]
    assert told.endswith(" The last run failed: There is nothing to learn from.")


async def test_a_trainer_at_work_is_waited_for(world: World) -> None:
    """The server sees one at work, asks, and shows what the trainer answers to that question."""
    world.say(world.answer(), value=True)
    Workers(world.database).looked("local")
    await until(lambda: world.door.runtime.vitals.trainer.status == "ok")
    asking = asyncio.create_task(world.shown())
    await until(lambda: bool(world.door.runtime.looks.waiting()))
    world.teller.answer()
    assert (await asking)["known"]["labels_up"] == 1


async def test_another_tenants_adapter_does_not_exist(world: World) -> None:
    async with world.door.client("other") as client:
        response = await client.get("/v1/adapters/support/learning")
    assert response.status_code == 404
    assert world.door.runtime.looks.waiting() == {}


async def test_a_question_asked_while_one_is_answered_goes_on_waiting(world: World) -> None:
    looks = world.door.runtime.looks
    first = looks.ask(world.adapter.id)
    ((_, waiting),) = looks.waiting().items()
    assert waiting == first
    later = looks.ask(world.adapter.id)
    assert later > first
    await world.looked()
    look = looks.of(world.adapter.id).look
    assert look is not None
    again = looks.ask(world.adapter.id)
    looks.answer(world.adapter.id, first, look)
    assert looks.waiting() == {world.adapter.id: again}


async def until(holds: Callable[[], bool], patience_s: float = 20.0) -> None:
    deadline = asyncio.get_running_loop().time() + patience_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_an_adapter_that_was_looked_at_rests_and_others_are_answered(world: World) -> None:
    """Whoever polls takes no more of the trainer than its share."""
    looks, other = world.door.runtime.looks, world.door.adapter("acme", "sales")
    patient = Watch(world.database, rest=1e9)
    teller = Teller(world.database, patient.readings, GateLimits())
    looks.ask(world.adapter.id)
    teller.answer()
    assert looks.waiting() == {}
    looks.ask(world.adapter.id)
    looks.ask(other.id)
    teller.answer()
    assert list(looks.waiting()) == [world.adapter.id]
