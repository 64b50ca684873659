"""Appending answers: once each, durable on return, and without harm to others when it fails."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import StatementError
from support.stored import count, stored_answer

from core.database import Database
from core.errors import Unavailable
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.interactions import InteractionStore
from feedback.store import FeedbackStore
from feedback.tables import interactions
from feedback.types import Feedback, Interaction

ACME = TenantId("ten_acme")
SUPPORT = AdapterId("ada_support")


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


def test_the_same_answer_twice_is_one_row(database: Database) -> None:
    store = InteractionStore(database)
    store.append([answer("a"), answer("b")])
    store.append([answer("b", answers=("Another text.",)), answer("c")])
    assert count(database, interactions, ACME) == 3
    assert stored_answer(database, "b").answers == ("By the river.",)


def test_feedback_that_came_before_its_answer_is_matched(database: Database) -> None:
    store, said = InteractionStore(database), FeedbackStore(database)
    said.put(Feedback(FeedbackId("early"), ACME, 200.0, CompletionId("late"), value=True))
    store.append([answer("first")])
    assert said.news(SUPPORT, 0) is None
    store.append([answer("late"), answer("last")])
    news = said.news(SUPPORT, 0)
    assert news is not None
    assert news.count == 1
    assert count(database, interactions, ACME) == 3


def test_only_an_answer_kept_to_be_fetched_is_found_and_only_by_its_tenant(
    database: Database,
) -> None:
    store = InteractionStore(database)
    store.append([answer("plain"), answer("whole", document={"output": [{"text": "€"}]})])
    found = store.fetchable(ACME, CompletionId("whole"))
    assert found is not None
    assert found.document == {"output": [{"text": "€"}]}
    assert store.fetchable(ACME, CompletionId("plain")) is None
    assert store.fetchable(TenantId("ten_other"), CompletionId("whole")) is None
    assert not store.delete(TenantId("ten_other"), CompletionId("whole"))
    assert not store.delete(ACME, CompletionId("plain"))
    assert count(database, interactions, ACME) == 2


def news_count(said: FeedbackStore) -> int:
    news = said.news(SUPPORT, 0)
    return 0 if news is None else news.count


def learnt_from(said: FeedbackStore) -> list[str]:
    seqs = sorted(said.said_of(SUPPORT, 100).values())
    return [answered.id for judged in said.judged(seqs) for answered in judged.answers]


def test_a_deleted_answer_teaches_nothing_and_what_was_said_of_it_stays(
    database: Database,
) -> None:
    store, said = InteractionStore(database), FeedbackStore(database)
    store.append([answer(name, document={}) for name in ("gone", "kept")])
    for name in ("gone", "kept"):
        said.put(Feedback(FeedbackId(f"on-{name}"), ACME, 200.0, CompletionId(name), value=True))
    assert (news_count(said), learnt_from(said)) == (2, ["gone", "kept"])
    assert store.delete(ACME, CompletionId("gone"))
    assert not store.delete(ACME, CompletionId("gone"))
    assert (news_count(said), learnt_from(said)) == (1, ["kept"])
    assert len(said.list(ACME).items) == 2
    said.put(Feedback(FeedbackId("late"), ACME, 300.0, CompletionId("gone"), value=False))
    assert news_count(said) == 1


def test_a_locked_file_is_an_error_that_passes_and_nothing_is_half_stored(sqlite: Database) -> None:
    impatient = Database(sqlite.url, wait_s=0.05)
    store = InteractionStore(impatient)
    other = sqlite3.connect(sa.make_url(sqlite.url).database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="nothing was changed"):
        store.append([answer("a"), answer("b")])
    other.execute("COMMIT")
    InteractionStore(sqlite).append([answer("a"), answer("b")])
    assert count(sqlite, interactions, ACME) == 2
    other.close()
    impatient.dispose()


def test_what_was_appended_survives_the_end_of_the_process(sqlite: Database) -> None:
    """Nothing is left to a later flush, close or interpreter's end."""
    pid = os.fork()
    if pid == 0:
        InteractionStore(Database(sqlite.url)).append([answer("kept")])
        os._exit(0)  # no clean-up of any kind
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert count(sqlite, interactions, ACME) == 1


def test_every_commit_flushes_the_disk(sqlite: Database) -> None:
    """The end of a process cannot show it, only that of the power."""
    with sqlite.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


@pytest.mark.parametrize("what", ["number", "depth"])
def test_an_answer_that_cannot_be_stored_locks_nobody_out(sqlite: Database, what: str) -> None:
    """SQLite's numbers end at 64 bits, Python's JSON at its depth of recursion."""
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    odd = {"number": {"prompt_tokens": 2**63}, "depth": {"request": {"metadata": nested}}}
    store = InteractionStore(sqlite)
    with pytest.raises((OverflowError, RecursionError, StatementError)):
        store.append([answer("odd", **odd[what])])
    other = sqlite3.connect(sa.make_url(sqlite.url).database or "", timeout=0.0)
    other.execute("BEGIN IMMEDIATE")
    other.close()
    store.append([answer("next")])
    assert count(sqlite, interactions, ACME) == 1
