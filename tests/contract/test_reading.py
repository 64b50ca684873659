"""What is read bit by bit is what is read at once, whatever is said, changed or deleted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.types import Adapter, Learning
from core.database import Database
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.interactions import InteractionStore
from feedback.learning.judgement import Reader
from feedback.learning.pairing import agree, examples
from feedback.learning.reading import Reading, read_feedback
from feedback.learning.recorded import Recorded, anything_fits
from feedback.learning.texts import Texts
from feedback.served import Served, ServedChoice, pack
from feedback.store import FeedbackStore
from feedback.types import Comparison, Feedback, Interaction, Learnable

pytestmark = pytest.mark.slow

ACME, OTHER = TenantId("acme"), TenantId("other")
SUPPORT, SALES = AdapterId("support"), AdapterId("sales")
ADAPTER = Adapter(SUPPORT, ACME, "support", "tenant", None, 0.0, None, 0, Learning())


class History:
    """A random life of two tenants' answers and feedback; every step is one store call."""

    def __init__(self, database: Database, seed: int) -> None:
        self.log, self.said = InteractionStore(database), FeedbackStore(database)
        self.rng = random.Random(seed)
        self.answers: list[Interaction] = []
        self.unlogged: list[Interaction] = []
        self.items = 0

    def step(self) -> None:
        steps: list[Callable[[], object]] = [self.answer, self.log_late, self.delete, self.change]
        self.rng.choices([*steps, self.say], [3, 2, 1, 2, 6])[0]()

    def answer(self) -> None:
        made = interaction(len(self.answers), self.rng)
        self.answers.append(made)
        if self.rng.random() < 0.3:
            self.unlogged.append(made)
        else:
            self.log.append([made])

    def log_late(self) -> None:
        if self.unlogged:
            late = self.unlogged.pop(self.rng.randrange(len(self.unlogged)))
            self.log.append([late])

    def say(self) -> None:
        self.items += 1
        self.put(f"f{self.items}")

    def change(self) -> None:
        if self.items:
            self.put(f"f{self.rng.randint(1, self.items)}")

    def delete(self) -> None:
        if self.items:
            self.said.delete(ACME, FeedbackId(f"f{self.rng.randint(1, self.items)}"))

    def put(self, name: str) -> None:
        mine = [it.id for it in self.answers if it.tenant_id == ACME]
        if len(mine) > 1:
            self.said.put(feedback(name, mine, self.rng))

    def at_once(self) -> Learnable:
        """What is learnt by going through the lists, without any of the queries in question."""
        known = {it.id: it for it in pages(self.log.list) if it.outcome == "completed"}
        texts = Texts(keep=True)
        reader = Reader(SUPPORT, texts)
        judgements = []
        for item in pages(self.said.list):
            about = [known[name] for name in item.completion_ids if name in known]
            if any(it.adapter_id == SUPPORT for it in about):
                judgements.append(reader.judgement(item, about))
        return examples(agree(judgements, now_s=1e9, max_share_per_user=0.5), texts)


def pages(listed: Callable[..., Any]) -> Iterator[Any]:
    page = listed(ACME, limit=200)
    yield from page.items
    while page.has_more:
        page = listed(ACME, limit=200, after=page.items[-1].id)
        yield from page.items


def interaction(number: int, rng: random.Random) -> Interaction:
    return Interaction(
        id=CompletionId(f"c{number}"),
        tenant_id=rng.choice([ACME] * 9 + [OTHER]),
        endpoint="chat.completions",
        created_at_s=1.0,
        outcome=rng.choice(["completed"] * 6 + ["cancelled"]),
        model_requested="support",
        model_answered="support@1",
        adapter_id=rng.choice([SUPPORT] * 6 + [SALES, None]),
        version=rng.choice([None, 1]),
        explored=False,
        prompt=({"role": "user", "content": rng.choice("pq")},),
        answers=(rng.choice(["a", "b", "c", " "]),),
        finish_reason="stop",
        end_user=rng.choice(["ann", "bob", None]),
        tokens=rng.choice([None, kept(rng), kept(rng)]),
    )


def kept(rng: random.Random) -> bytes:
    """Other ids than those of the same words elsewhere, half the time."""
    choice = ServedChoice(0, (rng.choice([7, 70_000]), 2), "stop")
    return pack(Served(((1, rng.choice([5, 6])),), (choice,)))


def feedback(name: str, known: list[CompletionId], rng: random.Random) -> Feedback:
    at_s = float(rng.randint(1, 50))
    fields: dict[str, Any] = {"end_user": rng.choice(["ann", "bob", None])}
    if rng.random() < 0.25:
        best, *others = rng.sample(known, min(3, len(known)))
        fields["comparison"] = Comparison(best, tuple(others))
    else:
        fields |= {
            "completion_id": rng.choice(known),
            "value": rng.choice([True, False, True, False, 1.0, 4.0, None]),
            "correction": rng.choice([None, None, "a", "d"]),
        }
    return Feedback(FeedbackId(name), ACME, at_s, **fields)


@pytest.fixture(params=[1, 2, 3])
def history(database: Database, request: pytest.FixtureRequest) -> History:
    return History(database, request.param)


def reading_of(history: History, newest: int = 10_000) -> tuple[Reading, Texts]:
    texts = Texts(keep=True)
    return Reading(history.said, SUPPORT, Reader(SUPPORT, texts), newest=newest), texts


def test_reading_bit_by_bit_is_reading_at_once(history: History) -> None:
    reading, texts = reading_of(history)
    learnt = 0
    for n in range(240):
        history.step()
        if n % 3 == 0:
            reading.refresh()
            now = examples(reading.agreed(ADAPTER), texts)
            assert now == history.at_once()
            learnt += bool(now.labels) + bool(now.pairs)
    assert learnt > 40
    whole = read_feedback(history.said, ADAPTER, anything_fits, newest=10_000)
    assert whole == history.at_once()


def test_a_look_reads_only_what_has_changed(database: Database) -> None:
    history = History(database, 4)
    for _ in range(200):
        history.step()
    for late in history.unlogged:
        history.log.append([late])
    reading, _ = reading_of(history)
    with reads(database) as before:
        reading.refresh()
    assert before["rows"] > 50
    with reads(database) as nothing_new:
        reading.refresh()
    assert nothing_new["rows"] == 0
    history.log.append([replace_id(history.answers[0], "one-more")])
    item = Feedback(FeedbackId("one"), ACME, 9.0, CompletionId("one-more"), value=True)
    history.said.put(item)
    with reads(database) as one:
        reading.refresh()
    assert one["rows"] == 3  # the item, its target, its answer


def test_a_failed_read_is_made_up_for(database: Database) -> None:
    history = History(database, 5)
    for _ in range(120):
        history.step()
    texts = Texts(keep=True)
    ill = True

    def encode(recorded: Recorded) -> Any:
        if ill:
            raise OSError("not now")
        return anything_fits(recorded)

    reading = Reading(history.said, SUPPORT, Reader(SUPPORT, texts, encode), newest=10_000)
    with pytest.raises(OSError, match="not now"):
        reading.refresh()
    ill = False
    reading.refresh()
    assert examples(reading.agreed(ADAPTER), texts) == history.at_once()


def test_only_the_newest_are_read(database: Database) -> None:
    history = History(database, 6)
    answers = [replace_id(fixed(), f"c{n}", answers=(f"text {n}",)) for n in range(9)]
    history.log.append(answers)
    for n in range(9):
        item = FeedbackId(f"f{n}")
        history.said.put(Feedback(item, ACME, 1.0 + n, answers[n].id, value=True))
    reading, texts = reading_of(history, newest=4)
    reading.refresh()
    learnt = examples(reading.agreed(ADAPTER), texts)
    assert [label.completion for label in learnt.labels] == [f"text {n}" for n in range(5, 9)]
    history.said.put(Feedback(FeedbackId("f0"), ACME, 20.0, answers[0].id, value=False))
    reading.refresh()
    learnt = examples(reading.agreed(ADAPTER), texts)
    told = [label.completion for label in learnt.labels]
    assert told == [*(f"text {n}" for n in range(6, 9)), "text 0"]


def fixed() -> Interaction:
    return Interaction(
        *(CompletionId("c"), ACME, "chat.completions", 1.0, "completed", "support", "base"),
        *(SUPPORT, None, False, "Where?", ("Here.",), "stop", "ann"),
    )


def replace_id(answer: Interaction, name: str, **changes: Any) -> Interaction:
    whole = {"tenant_id": ACME, "outcome": "completed", "adapter_id": SUPPORT, **changes}
    return replace(answer, id=CompletionId(name), **whole)


@contextmanager
def reads(database: Database) -> Iterator[dict[str, int]]:
    """Counts the rows that are asked for by number: items, their targets, answers."""
    counted = {"rows": 0}

    def count(connection: Any, statement: Any, many: Any, params: dict[str, Any], *_: Any) -> None:
        asked = [values for values in params.values() if isinstance(values, list | tuple)]
        counted["rows"] += sum(map(len, asked))

    sa.event.listen(database.engine, "after_execute", count)
    yield counted
    sa.event.remove(database.engine, "after_execute", count)
