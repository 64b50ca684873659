"""Feedback of many callers in common commits: each item is taken or refused as if it were alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from support.stored import count

from core.database import Database
from core.errors import AttuneError, Conflict, NotFound, Unavailable
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.interactions import InteractionStore
from feedback.putting import Said, Stored
from feedback.store import FeedbackStore
from feedback.tables import feedback, feedback_targets
from feedback.types import Feedback, Interaction
from feedback.writer import FeedbackWriter

ACME, OTHER = TenantId("acme"), TenantId("other")
SUPPORT = AdapterId("support")


def answer(name: str, tenant: TenantId = ACME) -> Interaction:
    return Interaction(
        id=CompletionId(name),
        tenant_id=tenant,
        endpoint="completions",
        created_at_s=1.0,
        outcome="completed",
        model_requested="support",
        model_answered="support@1",
        adapter_id=SUPPORT,
        version=1,
        explored=False,
        prompt="p",
        answers=("a",),
        finish_reason="stop",
    )


def thumb(name: str, about: str, value: bool = True, tenant: TenantId = ACME) -> Feedback:
    return Feedback(
        id=FeedbackId(name),
        tenant_id=tenant,
        created_at_s=2.0,
        completion_id=CompletionId(about),
        name="thumb",
        value=value,
    )


@pytest.fixture
def store(database: Database) -> FeedbackStore:
    InteractionStore(database).append([answer("a"), answer("b"), answer("theirs", OTHER)])
    return FeedbackStore(database)


def told(outcomes: Sequence[Stored | AttuneError]) -> list[object]:
    return [type(one) if isinstance(one, AttuneError) else one[1] for one in outcomes]


def test_in_one_commit_each_item_has_its_own_outcome(
    store: FeedbackStore, database: Database
) -> None:
    store.put(thumb("known", "a"))
    later = replace(thumb("known", "b"), created_at_s=9.0)
    outcomes = store.put_all(
        [
            Said(thumb("new", "a")),
            Said(thumb("known", "a")),
            Said(thumb("stolen", "theirs")),
            Said(later, newest_wins=True),
            Said(thumb("theirs", "theirs", tenant=OTHER)),
            Said(thumb("early", "not yet logged")),
            Said(thumb("known", "a", value=False)),
        ]
    )
    assert told(outcomes) == [
        "created",
        "unchanged",
        NotFound,
        Conflict,
        "created",
        "created",
        "updated",
    ]
    assert (count(database, feedback, ACME), count(database, feedback, OTHER)) == (3, 1)
    assert store.get(ACME, FeedbackId("known")).value is False
    assert store.list(ACME, completion_id=CompletionId("theirs")).items == ()


def test_an_id_said_three_times_in_one_commit_ends_as_the_last_said(
    store: FeedbackStore, database: Database
) -> None:
    said = [Said(thumb("x", "a", value)) for value in (True, False, False)]
    assert told(store.put_all(said)) == ["created", "updated", "unchanged"]
    assert store.get(ACME, FeedbackId("x")).value is False
    with database.read() as connection:
        assert len(connection.execute(feedback_targets.select()).all()) == 1


def test_items_become_news_in_the_order_they_were_said(store: FeedbackStore) -> None:
    store.put_all([Said(thumb(f"t-{number}", "ab"[number % 2])) for number in range(9)])
    seqs = [seq for _, seq in sorted(store.said_of(SUPPORT, 100).items())]
    names = [judged.item.id for judged in store.judged(seqs)]
    assert names == [f"t-{number}" for number in range(9)]
    news = store.news(SUPPORT, 0)
    assert news is not None
    assert (news.count, store.last_seq()) == (9, news.max_seq)


@pytest.fixture
def writer(store: FeedbackStore) -> Iterator[FeedbackWriter]:
    made = FeedbackWriter(store.put_all)
    yield made
    made.close()


def test_many_at_once_are_all_durable_when_they_are_told(
    writer: FeedbackWriter, database: Database, database_url: str
) -> None:
    other = Database(database_url)  # sees only what is committed

    def one(number: int) -> str:
        tenant = (ACME, OTHER)[number % 2]
        about = ("a", "theirs")[number % 2]
        (outcome,) = writer.put_all([Said(thumb(f"t-{number}", about, tenant=tenant))])
        assert not isinstance(outcome, AttuneError)
        assert FeedbackStore(other).get(tenant, FeedbackId(f"t-{number}")) == outcome[0]
        return outcome[1]

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(one, range(200))) == {"created"}
    assert count(database, feedback, ACME) == 100
    other.dispose()


def test_trouble_refuses_the_call_and_a_refused_item_only_itself(
    store: FeedbackStore, writer: FeedbackWriter
) -> None:
    mixed = writer.put_all([Said(thumb("mine", "a")), Said(thumb("stolen", "theirs"))])
    assert told(mixed) == ["created", NotFound]

    def away(_: Sequence[Said]) -> Sequence[Stored | AttuneError]:
        raise Unavailable("The database is away.")

    troubled = FeedbackWriter(away)
    with pytest.raises(Unavailable):
        troubled.put_all([Said(thumb("x", "a"))])
    troubled.close()


def test_a_commit_that_hangs_is_told_in_time() -> None:
    go = threading.Event()

    def hang(said: Sequence[Said]) -> Sequence[Stored | AttuneError]:
        go.wait(10)
        return [(one.item, "created") for one in said]

    writer = FeedbackWriter(hang, patience_s=0.2)
    with pytest.raises(Unavailable, match="in time"):
        writer.put_all([Said(thumb("x", "a"))])
    go.set()
    writer.close()
