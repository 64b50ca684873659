"""The recorder's way of storing answers: the same rows as the store's, and the same failures."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from core.database import Database
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.interactions import InteractionStore
from feedback.log import InteractionLog
from feedback.store import FeedbackStore
from feedback.tables import interactions
from feedback.types import Feedback, Interaction

ACME = TenantId("ten_acme")
SUPPORT = AdapterId("ada_support")


@pytest.fixture
def log(database: Database) -> Iterator[InteractionLog]:
    log = InteractionLog(database)
    yield log
    log.close()


def answer(name: str, **changes: Any) -> Interaction:
    plain = Interaction(
        id=CompletionId(name),
        tenant_id=ACME,
        endpoint="chat.completions",
        created_at_s=100.0,
        outcome="completed",
        model_requested="support",
        model_answered="support@7",
        adapter_id=SUPPORT,
        version=7,
        explored=False,
        prompt=({"role": "user", "content": "Where is the € market?"},),
        answers=("By the river.",),
        finish_reason="stop",
    )
    return replace(plain, **changes)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"prompt": "plain text", "version": None, "adapter_id": None, "explored": True},
    {"response": {"tool_calls": [{"id": "x"}]}, "sampling": {"temperature": 0.7}},
    {"end_user": "nul\0 and \ud83d" + "x" * 400, "sampling": {"top_p": float("nan")}},
    {"answers": (), "finish_reason": None, "first_token_ms": 1.5, "completion_tokens": 3},
]


def test_it_stores_what_the_store_would_store(database: Database, log: InteractionLog) -> None:
    batch = [answer(f"log-{number}", **changes) for number, changes in enumerate(VARIANTS)]
    log.append(batch)
    InteractionStore(database).append([replace(it, id=f"store{it.id[3:]}") for it in batch])
    with database.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(_everything()).mappings()]
    assert len(rows) == 2 * len(batch)
    for mine, theirs in zip(rows[: len(batch)], rows[len(batch) :], strict=True):
        assert mine | {"id": "", "seq": 0} == theirs | {"id": "", "seq": 0}


def test_the_same_answer_twice_is_one_row(database: Database, log: InteractionLog) -> None:
    log.append([answer("a"), answer("b")])
    log.append([answer("b", answers=("Another text.",)), answer("c")])
    store = InteractionStore(database)
    assert store.count(ACME) == 3
    assert store.get(ACME, CompletionId("b")).answers == ("By the river.",)


def test_feedback_that_came_before_its_answer_is_matched(
    database: Database, log: InteractionLog
) -> None:
    said = FeedbackStore(database)
    said.put(Feedback(FeedbackId("early"), ACME, 200.0, CompletionId("late"), value=True))
    log.append([answer("first")])
    assert said.news(SUPPORT, 0) is None
    log.append([answer("late"), answer("last")])
    news = said.news(SUPPORT, 0)
    assert news is not None
    assert news.count == 1
    assert InteractionStore(database).count(ACME) == 3


def test_a_locked_file_is_an_error_that_passes_and_nothing_is_half_stored(tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path}/attune.db")
    database.upgrade()
    log = InteractionLog(database)
    log.append([answer("before")])
    with log._held.driver() as driver:
        driver.execute("PRAGMA busy_timeout=10")
    other = sqlite3.connect(tmp_path / "attune.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        log.append([answer("a"), answer("b")])
    other.execute("COMMIT")
    log.append([answer("a"), answer("b")])
    assert InteractionStore(database).count(ACME) == 3
    log.close()
    database.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/attune.db")
    database.upgrade()
    yield database
    database.dispose()


def test_at_once_the_same_is_stored(sqlite: Database) -> None:
    log = InteractionLog(sqlite)
    for number, changes in enumerate(VARIANTS):
        assert log.append_at_once(answer(f"once-{number}", **changes))
    log.append([answer(f"log-{number}", **changes) for number, changes in enumerate(VARIANTS)])
    log.close()
    with sqlite.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(_everything()).mappings()]
    half = len(VARIANTS)
    for mine, theirs in zip(rows[:half], rows[half:], strict=True):
        assert mine | {"id": "", "seq": 0} == theirs | {"id": "", "seq": 0}


def test_at_once_survives_the_end_of_the_process(tmp_path: Path) -> None:
    """True means durable: nothing is left to a later flush, close or interpreter's end."""
    database = Database(f"sqlite:///{tmp_path}/attune.db")
    database.upgrade()
    pid = os.fork()
    if pid == 0:
        kept = InteractionLog(database).append_at_once(answer("kept"))
        os._exit(0 if kept else 1)  # no clean-up of any kind
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert InteractionStore(database).count(ACME) == 1
    database.dispose()


def test_at_once_flushes_the_disk_as_every_commit_does(sqlite: Database) -> None:
    """The end of a process cannot show it, only that of the power."""
    connection = sqlite.impatient()
    with sqlite.engine.connect() as other:
        patient = other.exec_driver_sql("PRAGMA synchronous").scalar()
    assert connection.execute("PRAGMA synchronous").fetchone() == (patient,) == (2,)  # FULL
    connection.close()


def test_at_once_waits_for_nobody_and_leaves_nothing_half_done(sqlite: Database) -> None:
    log = InteractionLog(sqlite)
    other = sqlite3.connect(sa.make_url(sqlite.url).database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    learns, base = answer("a"), answer("b", adapter_id=None, version=None)
    assert not log.append_at_once(learns)
    assert not log.append_at_once(base)
    assert time.monotonic() - began < 5  # a patient connection would wait 30 s
    other.execute("COMMIT")
    assert log.append_at_once(learns)
    assert log.append_at_once(base)
    assert InteractionStore(sqlite).count(ACME) == 2
    log.close()
    other.close()


def test_at_once_leaves_an_answer_with_waiting_feedback_to_append(sqlite: Database) -> None:
    log = InteractionLog(sqlite)
    said = FeedbackStore(sqlite)
    said.put(Feedback(FeedbackId("early"), ACME, 200.0, CompletionId("late"), value=True))
    assert not log.append_at_once(answer("late"))
    assert said.news(SUPPORT, 0) is None
    log.append([answer("late")])
    assert said.news(SUPPORT, 0) is not None
    assert log.append_at_once(answer("next"))
    log.close()


def test_at_once_an_answer_that_cannot_be_stored_is_left_to_append_and_locks_nobody_out(
    sqlite: Database,
) -> None:
    """SQLite's numbers end at 64 bits, Python's JSON at its depth of recursion."""
    log = InteractionLog(sqlite)
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    assert not log.append_at_once(answer("big", prompt_tokens=2**63))
    assert not log.append_at_once(answer("deep", request={"metadata": nested}))
    other = sqlite3.connect(sa.make_url(sqlite.url).database or "", timeout=0.0)
    other.execute("BEGIN IMMEDIATE")
    other.close()
    assert log.append_at_once(answer("next"))
    assert InteractionStore(sqlite).get(ACME, CompletionId("next"))
    assert InteractionStore(sqlite).count(ACME) == 1
    log.close()


def test_across_a_network_nothing_is_done_at_once(database: Database, log: InteractionLog) -> None:
    assert log.append_at_once(answer("a")) == database.is_sqlite


def _everything() -> sa.Select[Any]:
    # As text: what the JSON columns hold, to the letter.
    columns = [
        sa.cast(column, sa.Text).label(column.name) if isinstance(column.type, sa.JSON) else column
        for column in interactions.c
    ]
    return sa.select(*columns).order_by(interactions.c.seq)
