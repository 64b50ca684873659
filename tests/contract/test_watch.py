"""When a run is opened, on what was really said: what cannot teach starts none, however much."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.registry import Registry
from adapters.types import Adapter, Learning
from core.clock import now_s
from core.database import Database
from core.errors import Invalid
from core.identity.tenants import TenantStore
from core.ids import AdapterId, CompletionId, FeedbackId
from core.settings import Settings
from core.work.kind import Place
from core.work.ledger import Ledger
from feedback.interactions import InteractionStore
from feedback.learning.recorded import Recorded, Refused
from feedback.store import FeedbackStore
from feedback.types import Comparison, Feedback, Interaction
from trainer.runs.steps import Steps
from trainer.runs.watch import Watch, open_run
from trainer.types import RUN, Run

LONGEST = 20


def encode(recorded: Recorded) -> tuple[None, None]:
    """Of a model whose tokens are words."""
    words = [str(message["content"]) for message in map(dict, recorded.prompt)]
    if sum(len(text.split()) for text in (*words, recorded.text)) > LONGEST:
        raise Refused("too_long")
    return None, None


class World:
    """An adapter that wants 16 labels and 8 new items, and what is said of its answers."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tenant = TenantStore(database).create("acme").id
        self.adapter: Adapter = Registry(database).create(
            self.tenant, "support", learning=Learning(min_labels=16, min_minority=3, new_items=8)
        )
        self.log, self.said = InteractionStore(database), FeedbackStore(database)
        self.runs = Ledger(database, RUN)
        self.watch = Watch(database, encode, max_length=LONGEST, rest=0.0)
        self.made = 0

    def look(self) -> list[Run]:
        self.watch.open_due_runs()
        return list(self.runs.active())

    def learn(self, **learning: Any) -> None:
        changed = replace(self.adapter.learning, **learning)
        self.adapter = Registry(self.database).set_learning(self.adapter.id, changed)

    def answer(self, **changes: Any) -> Interaction:
        self.made += 1
        plain = Interaction(
            *(CompletionId(f"c{self.made}"), self.tenant, "chat.completions", 1.0, "completed"),
            *("support", "base", self.adapter.id, None, False),
            prompt=({"role": "user", "content": f"Question {self.made}"},),
            answers=(f"Answer {self.made}",),
            finish_reason="stop",
        )
        made = replace(plain, **changes)
        self.log.append([made])
        return made

    def say(self, about: Interaction, **fields: Any) -> None:
        self.made += 1
        user = fields.pop("end_user", f"user {self.made}")
        at_s = fields.pop("at_s", now_s())
        said = {"completion_id": about.id, **fields}
        item = Feedback(FeedbackId(f"f{self.made}"), self.tenant, at_s, end_user=user, **said)
        self.said.put(item)

    def teach(self, count: int, **fields: Any) -> None:
        for n in range(count):
            self.say(self.answer(), value=n % 2 == 0, **fields)


@pytest.fixture
def world(sqlite: Database) -> World:
    return World(sqlite)


def duplicates(world: World) -> None:
    same = world.answer()
    world.say(same, value=True, end_user=None)
    assert world.look() == []  # the first of them is worth knowing
    for _ in range(16):
        world.say(same, value=True, end_user=None)


def disputes(world: World) -> None:
    for _ in range(8):
        same = world.answer()
        world.say(same, value=True, end_user="ann")
        world.say(same, value=False, end_user="bob")


def comments(world: World) -> None:
    for _ in range(16):
        world.say(world.answer(), comment="Hm.")


def foreign(world: World) -> None:
    other = AdapterId("another")
    for _ in range(16):
        mine, theirs = world.answer(answers=(" ",)), world.answer(adapter_id=other)
        compared = Comparison(theirs.id, (mine.id,))
        world.say(mine, completion_id=None, comparison=compared)


def same_texts(world: World) -> None:
    for n in range(16):
        prompt = ({"role": "user", "content": f"Same {n}"},)
        two = [world.answer(prompt=prompt, answers=("Yes.",)) for _ in range(2)]
        compared = Comparison(two[0].id, (two[1].id,))
        world.say(two[0], completion_id=None, comparison=compared)


def saying(**answer: Any) -> Callable[[World], None]:
    def say(world: World) -> None:
        fields = {name: answer[name] for name in ("correction",) if name in answer}
        value = None if fields else True
        changes = {name: answer[name] for name in answer if name != "correction"}
        for _ in range(16):
            world.say(world.answer(**changes), value=value, **fields)

    return say


LONG = "word " * 30
IDLE = {
    "too_long": saying(prompt=({"role": "user", "content": LONG},)),
    "answers_too_long": saying(answers=(LONG,)),
    "edits_too_long": saying(correction=LONG),
    "empty": saying(answers=(" \n",)),
    "cut": saying(outcome="cancelled"),
    "tools": saying(finish_reason="tool_calls"),
    "pictures": saying(prompt=({"role": "user", "content": [{"type": "image_url"}]},)),
    "unchanged": saying(answers=("Yes.",), correction=" Yes."),
    "comments": comments,
    "disputes": disputes,
    "duplicates": duplicates,
    "same_texts": same_texts,
    "foreign": foreign,
}


@pytest.mark.parametrize("kind", IDLE)
def test_what_cannot_teach_starts_no_run(world: World, kind: str) -> None:
    world.teach(16)
    (first,) = world.look()
    world.runs.finish(first.id, "rejected")
    IDLE[kind](world)
    assert world.look() == []
    world.teach(8)
    (again,) = world.look()
    # The first of the duplicates is one.
    assert again.facts.trigger.split(";")[0] == f"{8 + (kind == 'duplicates')} new"


def test_prompts_over_the_length_start_no_run_and_the_log_names_the_setting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "attune.trainer")
    world.learn(min_labels=32, min_minority=6, new_items=32)
    for _ in range(4):
        IDLE["too_long"](world)
    assert world.look() == []
    assert "64 too_long (over 20 tokens, see ATTUNE_TRAIN_MAX_LENGTH)" in caplog.text
    assert world.look() == []
    world.teach(32)
    (run,) = world.look()
    assert run.facts.trigger == "32 new; 16 up, 16 down, 0 pairs"
    world.runs.finish(run.id, "failed", error="for whatever reason")
    for _ in range(4):
        IDLE["too_long"](world)
    assert world.look() == []


def test_a_failed_run_is_not_opened_again_for_the_same_items(world: World) -> None:
    world.teach(16)
    (run,) = world.look()
    world.runs.finish(run.id, "failed", error="x")
    world.say(world.answer(), value=True)
    assert world.look() == []


@pytest.mark.parametrize(
    ("method", "idle"),
    [("dpo", "thumbs"), ("sft", "thumbs"), ("sft", "comparisons"), ("kto", "ups"), ("auto", "ups")],
)
def test_what_the_method_cannot_learn_from_starts_no_run(
    world: World, method: str, idle: str
) -> None:
    world.learn(method=method, min_minority=0, min_pairs=4, new_items=8)
    for n in range(16):
        if idle == "comparisons":
            prompt = ({"role": "user", "content": f"Same {n}"},)
            two = [world.answer(prompt=prompt) for _ in range(2)]
            compared = Comparison(two[0].id, (two[1].id,))
            world.say(two[0], completion_id=None, comparison=compared)
        else:
            world.say(world.answer(), value=idle == "ups" or n % 2 == 0)
    assert world.look() == []
    for _ in range(8):
        world.say(world.answer(), correction="As it should be.")
    assert len(world.look()) == 1


def test_age_is_that_of_what_can_teach(world: World) -> None:
    world.learn(max_age_s=600.0)
    world.teach(16, at_s=now_s() - 10)
    (run,) = world.look()
    world.runs.finish(run.id, "rejected")
    world.say(world.answer(answers=(LONG,)), value=True, at_s=now_s() - 1_000)
    assert world.look() == []
    world.teach(1)
    assert world.look() == []
    world.teach(1, at_s=now_s() - 601)
    (aged,) = world.look()
    assert aged.facts.trigger.startswith("2 new, waited 600 s")


def test_an_item_that_waits_is_looked_at_again_when_it_is_old_enough(world: World) -> None:
    world.learn(max_age_s=1.5)
    world.teach(16)
    (run,) = world.look()
    world.runs.finish(run.id, "rejected")
    world.teach(1)
    assert world.look() == []
    deadline = time.monotonic() + 20
    while not world.look():
        assert time.monotonic() < deadline


def test_what_was_deleted_no_longer_counts(world: World) -> None:
    world.teach(16)
    (run,) = world.look()
    world.runs.finish(run.id, "rejected")
    world.teach(7)
    assert world.look() == []
    for item in world.said.list(world.tenant, limit=5).items:
        world.said.delete(world.tenant, item.id)
    world.teach(5)
    assert world.look() == []  # 12 came, 7 are left
    world.teach(1)
    assert len(world.look()) == 1


def test_a_fresh_watch_comes_to_the_same_as_one_that_has_looked_all_along(world: World) -> None:
    world.teach(15)
    assert world.look() == []
    world.teach(1)
    fresh = Watch(world.database, encode, rest=0.0)
    fresh.open_due_runs()
    assert len(world.runs.active()) == 1


def test_many_adapters_are_remembered_within_the_limit(database: Database) -> None:
    world = World(database)
    world.watch = Watch(database, encode, max_items=25, rest=0.0)
    for name in ("one", "two", "three"):
        learning = world.adapter.learning
        world.adapter = Registry(database).create(world.tenant, name, learning=learning)
        world.teach(14)
        assert world.look() == []
    for adapter in Registry(database).adapters(world.tenant)[1:]:
        world.adapter = adapter
        world.teach(2)
    runs = world.look()
    assert {run.facts.trigger for run in runs} == {"16 new; 8 up, 8 down, 0 pairs"}
    assert len(runs) == 3


def test_a_run_with_nothing_to_learn_from_says_which_setting_left_it_out(
    world: World, tmp_path: Path
) -> None:
    IDLE["too_long"](world)
    settings = Settings(home=tmp_path, train_max_length=LONGEST)
    place = Place(settings, world.database, "base", settings.model)
    steps = Steps(place, lambda: pytest.fail("no model is needed"), lambda _: tmp_path, encode)
    run, _ = open_run(world.runs, world.adapter, "asked for by hand", 16, None)
    why = r"16 too_long \(over 20 tokens, see ATTUNE_TRAIN_MAX_LENGTH\)"
    with pytest.raises(Invalid, match=why):
        steps.snapshot(run.id)
