"""What the stores of interactions, feedback and snapshots promise, on either database."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from support.stored import count, stored_answer

from core.database import Database
from core.errors import Conflict, Invalid, NotFound
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.history import Wanted
from feedback.interactions import InteractionStore
from feedback.learning.datasets import freeze, register
from feedback.store import FeedbackStore
from feedback.tables import feedback, interactions, snapshots
from feedback.types import Comparison, Feedback, Interaction, News

ACME, OTHER = TenantId("acme"), TenantId("other")
SUPPORT, SALES = AdapterId("support"), AdapterId("sales")


@pytest.fixture
def log(database: Database) -> InteractionStore:
    return InteractionStore(database)


@pytest.fixture
def said(database: Database) -> FeedbackStore:
    return FeedbackStore(database)


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
        prompt=({"role": "user", "content": "Where is the \u20ac market?"},),
        answers=("By the river.",),
        finish_reason="stop",
        end_user="ann",
    )
    return replace(plain, **changes)


def thumb(item_id: str, about: str | None, value: Any = True, **changes: Any) -> Feedback:
    plain = Feedback(
        id=FeedbackId(item_id),
        tenant_id=ACME,
        created_at_s=200.0,
        completion_id=None if about is None else CompletionId(about),
        value=value,
    )
    return replace(plain, **changes)


def effective(said: FeedbackStore, adapter_id: AdapterId) -> list[tuple[str, list[str]]]:
    """What the adapter can learn from: items with the answers they speak of."""
    seqs = sorted(set(said.said_of(adapter_id, 1_000).values()))
    return [(one.item.id, [it.id for it in one.answers]) for one in said.judged(seqs)]


def ids(page: Any) -> list[str]:
    return [item.id for item in page.items]


def test_an_interaction_comes_back_as_it_was_appended(
    database: Database, log: InteractionStore
) -> None:
    full = answer(
        "c1",
        domain="town",
        conversation_id="talk",
        sampling={"temperature": 0.7},
        request={"stop": ["\n"]},
        response={"tool_calls": []},
        prompt_tokens=5,
        completion_tokens=4,
        first_token_ms=1.5,
        duration_ms=9.25,
    )
    text = answer("c2", prompt="plain text", version=None, adapter_id=None, end_user=None)
    log.append([full, text])
    assert stored_answer(database, full.id) == full
    assert stored_answer(database, text.id) == text


def test_an_interaction_is_stored_exactly_once(database: Database, log: InteractionStore) -> None:
    log.append([answer("c1")])
    log.append([answer("c1", answers=("Another text.",)), answer("c2")])
    assert count(database, interactions, ACME) == 2
    assert stored_answer(database, "c1").answers == ("By the river.",)


def test_one_odd_answer_does_not_spoil_the_commit_it_shares(
    database: Database, log: InteractionStore
) -> None:
    odd = answer(
        "odd",
        end_user="nul\0 and \ud83d" + "x" * 400,
        sampling={"top_p": float("nan")},
        prompt=({"role": "user", "content": "\0\ud83d"},),
        answers=("\0",),
    )
    log.append([answer("c1"), odd, answer("c2")])
    assert count(database, interactions, ACME) == 3
    stored = stored_answer(database, odd.id)
    assert stored.sampling == {"top_p": None}
    assert len(stored.end_user or "") == 256


def test_users_with_long_alike_names_stay_apart(database: Database, log: InteractionStore) -> None:
    log.append([answer("c1", end_user="x" * 300 + "1"), answer("c2", end_user="x" * 300 + "2")])
    first, second = (stored_answer(database, name) for name in ("c1", "c2"))
    assert first.end_user != second.end_user


def test_interactions_are_listed_newest_first_page_by_page(log: InteractionStore) -> None:
    log.append([answer(f"c{n}") for n in range(5)])
    first = log.list(ACME, limit=2)
    second = log.list(ACME, limit=2, after=first.items[-1].id)
    third = log.list(ACME, limit=2, after=second.items[-1].id)
    assert [ids(first), ids(second), ids(third)] == [["c4", "c3"], ["c2", "c1"], ["c0"]]
    assert [first.has_more, second.has_more, third.has_more] == [True, True, False]


def test_the_adapters_of_the_last_answers_come_busiest_first(log: InteractionStore) -> None:
    """Answers of the base tell nothing; neither do those before the last six."""
    old = [answer(f"old{n}", adapter_id=AdapterId("gone")) for n in range(3)]
    base = [answer("b1", version=None), answer("b2", version=None, adapter_id=None)]
    sales = [answer(f"s{n}", adapter_id=SALES) for n in range(3)]
    log.append([*old, *base, *sales, answer("c1")])
    assert log.recent_adapters(limit=5, among=6) == [SALES, SUPPORT]
    assert log.recent_adapters(limit=1, among=6) == [SALES]


def test_interactions_are_filtered(log: InteractionStore) -> None:
    log.append(
        [
            answer("a"),
            answer("b", outcome="cancelled"),
            answer("c", outcome="cancelled", adapter_id=SALES),
        ]
    )

    def found(**where: Any) -> list[str]:
        return ids(log.list(ACME, Wanted(**where)))

    assert found() == ["c", "b", "a"]
    assert found(outcome="cancelled") == ["c", "b"]
    assert found(adapter_id=SUPPORT) == ["b", "a"]
    assert found(adapter_id=SUPPORT, outcome="completed") == ["a"]
    assert found(adapter_id=AdapterId("quiet")) == []


@pytest.mark.parametrize("limit", [0, 201])
def test_a_page_has_a_sane_size(log: InteractionStore, said: FeedbackStore, limit: int) -> None:
    with pytest.raises(Invalid):
        log.list(ACME, limit=limit)
    with pytest.raises(Invalid):
        said.list(ACME, limit=limit)


def test_what_belongs_to_another_tenant_does_not_exist(
    log: InteractionStore, said: FeedbackStore
) -> None:
    log.append([answer("c1")])
    said.put(thumb("f1", "c1"))
    for attempt in (
        lambda: log.list(OTHER, after=CompletionId("c1")),
        lambda: said.get(OTHER, FeedbackId("f1")),
        lambda: said.list(OTHER, after=FeedbackId("f1")),
        lambda: said.put(thumb("mine", "c1", tenant_id=OTHER)),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert not said.delete(OTHER, FeedbackId("f1"))
    assert (ids(log.list(OTHER)), ids(said.list(OTHER))) == ([], [])
    assert said.get(ACME, FeedbackId("f1"))


def test_feedback_comes_back_as_it_was_put(log: InteractionStore, said: FeedbackStore) -> None:
    compared = Comparison(CompletionId("a"), (CompletionId("b"), CompletionId("c")))
    item = Feedback(
        id=FeedbackId("f"),
        tenant_id=ACME,
        created_at_s=5.0,
        name="picked",
        comparison=compared,
        comment="nicer",
        source_kind="llm",
        source_id="judge",
        end_user="ann",
        tags={"a": "b"},
        metadata={"n": [1, None, {"x": 2.5}]},
    )
    stored, change = said.put(item)
    assert change == "created"
    assert stored == replace(item, updated_at_s=5.0)
    assert said.get(ACME, item.id) == stored


@pytest.mark.parametrize("value", [True, False, 1.0, 0.0, 4.5, "blue", None])
def test_a_thumb_stays_a_thumb_and_a_score_a_score(said: FeedbackStore, value: Any) -> None:
    said.put(thumb("f", "c1", value, comment="so"))
    back = said.get(ACME, FeedbackId("f")).value
    assert (back, type(back)) == (value, type(value))


def test_the_same_feedback_twice_is_one_item(
    database: Database, log: InteractionStore, said: FeedbackStore
) -> None:
    log.append([answer("c1")])
    first, change = said.put(thumb("f1", "c1"))
    again, changed_again = said.put(thumb("f1", "c1", created_at_s=999.0))
    assert (change, changed_again) == ("created", "unchanged")
    assert again == first
    assert count(database, feedback, ACME) == 1
    assert said.news(SUPPORT, 0) == News(1, 200.0, 200.0, 1)


def test_changed_feedback_replaces_the_old_and_is_news_again(
    database: Database, log: InteractionStore, said: FeedbackStore
) -> None:
    log.append([answer("c1")])
    said.put(thumb("f1", "c1", True))
    seen = said.news(SUPPORT, 0)
    assert seen is not None
    stored, change = said.put(thumb("f1", "c1", False, created_at_s=300.0))
    assert change == "updated"
    assert (stored.value, stored.created_at_s, stored.said_at_s) == (False, 200.0, 300.0)
    assert count(database, feedback, ACME) == 1
    news = said.news(SUPPORT, seen.max_seq)
    assert news is not None
    assert (news.count, news.oldest_at_s) == (1, 300.0)


def test_an_older_word_that_comes_late_does_not_replace_a_newer_one(said: FeedbackStore) -> None:
    older = thumb("f1", "c1", value=True, created_at_s=200.0)
    newer = thumb("f1", "c1", value=False, created_at_s=300.0)
    said.put(newer)
    kept, change = said.put(older, newest_wins=True)
    assert (kept.value, kept.said_at_s, change) == (False, 300.0, "unchanged")
    assert said.put(replace(newer, value=True, created_at_s=400.0), newest_wins=True)[0].value
    assert said.put(older)[0].said_at_s == 400.0  # the same statement again
    assert said.put(replace(older, value=False))[0].said_at_s == 200.0


def test_who_gave_an_item_alone_replaces_and_erases_it_where_that_is_asked(
    said: FeedbackStore,
) -> None:
    said.put(thumb("f1", "c1", given_by="ann"))
    said.put(thumb("f0", "c1"))  # of before givers were kept: nobody's
    for other in (thumb("f1", "c1", given_by="bob"), thumb("f0", "c1", False, given_by="ann")):
        with pytest.raises(Conflict):
            said.put(other, own_only=True)
    assert not said.delete(ACME, FeedbackId("f1"), given_by="bob")
    assert not said.delete(ACME, FeedbackId("f0"), given_by="ann")
    assert said.put(thumb("f1", "c1", given_by="ann"), own_only=True)[1] == "unchanged"
    assert said.put(thumb("f1", "c1", given_by="bob"))[1] == "unchanged"  # the same statement
    changed, change = said.put(thumb("f1", "c1", False, given_by="bob"))
    assert (changed.value, changed.given_by, change) == (False, "ann", "updated")
    assert said.delete(ACME, FeedbackId("f1"), given_by="ann")
    assert said.delete(ACME, FeedbackId("f0"))


def test_a_thumb_that_becomes_the_score_one_is_a_change(said: FeedbackStore) -> None:
    said.put(thumb("f", "c1", True))
    stored, _ = said.put(thumb("f", "c1", 1.0))
    assert stored.kind == "score"


def test_two_tenants_may_use_the_same_feedback_id(said: FeedbackStore) -> None:
    said.put(thumb("f", "c1"))
    _, change = said.put(thumb("f", "c2", tenant_id=OTHER))
    assert change == "created"
    assert said.get(ACME, FeedbackId("f")).completion_id == "c1"


def test_deleted_feedback_is_gone_and_its_number_is_not_used_again(
    log: InteractionStore, said: FeedbackStore
) -> None:
    log.append([answer("c1")])
    said.put(thumb("f1", "c1"))
    seen = said.last_seq()
    assert said.delete(ACME, FeedbackId("f1"))
    assert not said.delete(ACME, FeedbackId("f1"))
    with pytest.raises(NotFound):
        said.get(ACME, FeedbackId("f1"))
    assert effective(said, SUPPORT) == []
    said.put(thumb("f2", "c1"))
    assert said.last_seq() > seen


def test_feedback_before_its_answer_counts_once_the_answer_is_logged(
    log: InteractionStore, said: FeedbackStore
) -> None:
    said.put(thumb("early", "late"))
    log.append([answer("c1")])
    said.put(thumb("f2", "c1"))
    seen = said.news(SUPPORT, 0)
    assert seen is not None
    assert seen.count == 1
    log.append([answer("late")])
    news = said.news(SUPPORT, seen.max_seq)
    assert news is not None
    assert news.count == 1
    assert {item for item, _ in effective(said, SUPPORT)} == {"early", "f2"}


def test_early_feedback_of_another_tenant_never_reaches_the_adapter(
    log: InteractionStore, said: FeedbackStore
) -> None:
    said.put(thumb("foreign", "c1", tenant_id=OTHER))
    said.put(thumb("own", "c2"))
    log.append([answer("c1"), answer("c2")])
    assert [item for item, _ in effective(said, SUPPORT)] == ["own"]
    news = said.news(SUPPORT, 0)
    assert news is not None
    assert news.count == 1


def test_only_completed_answers_are_learnt_from(log: InteractionStore, said: FeedbackStore) -> None:
    log.append([answer("c1", outcome="cancelled"), answer("c2", outcome="failed")])
    said.put(thumb("f1", "c1"))
    said.put(thumb("f2", "c2"))
    assert effective(said, SUPPORT) == []
    assert said.news(SUPPORT, 0) is None
    log.append([answer("c3")])
    said.put(thumb("f3", "c3"))
    assert [item for item, _ in effective(said, SUPPORT)] == ["f3"]
    assert said.news(SUPPORT, 0) is not None


def test_a_comparison_comes_with_every_answer_it_speaks_of(
    log: InteractionStore, said: FeedbackStore
) -> None:
    log.append([answer("a"), answer("b"), answer("base", adapter_id=None, version=None)])
    names = ("a", "b", "base")
    first, *rest = (CompletionId(name) for name in names)
    said.put(thumb("f", None, value=None, comparison=Comparison(first, tuple(rest))))
    ((item, answers),) = effective(said, SUPPORT)
    assert (item, sorted(answers)) == ("f", sorted(names))
    news = said.news(SUPPORT, 0)
    assert news is not None
    assert news.count == 1


def test_comments_are_kept_but_are_no_news(log: InteractionStore, said: FeedbackStore) -> None:
    log.append([answer("c1")])
    said.put(thumb("f", "c1", value=None, comment="thanks"))
    assert said.news(SUPPORT, 0) is None
    assert said.get(ACME, FeedbackId("f")).comment == "thanks"


def test_news_is_told_per_adapter_and_watermark(log: InteractionStore, said: FeedbackStore) -> None:
    log.append([answer("c1"), answer("c2", adapter_id=SALES), answer("c3", adapter_id=SALES)])
    said.put(thumb("f1", "c1", created_at_s=1.0))
    said.put(thumb("f2", "c2", created_at_s=2.0))
    said.put(thumb("f3", "c3", created_at_s=3.0))
    quiet = AdapterId("quiet")
    assert said.news(SUPPORT, 0) == News(1, 1.0, 1.0, 1)
    assert said.news(SALES, 0) == News(2, 2.0, 3.0, 3)
    assert said.news(SALES, 2) == News(1, 3.0, 3.0, 3)
    assert said.news(SUPPORT, 1) is None
    assert said.news_of({SUPPORT: 0, SALES: 0, quiet: 0}) == {SUPPORT: 1, SALES: 3}
    assert said.news_of({SUPPORT: 1, SALES: 2}) == {SALES: 3}
    assert said.news_of({}) == {}


def test_thousands_of_adapters_are_asked_about_in_one_query(
    log: InteractionStore, said: FeedbackStore
) -> None:
    adapters = [AdapterId(f"adapter_{n:05d}") for n in range(5_000)]
    log.append([answer(f"c{n}", adapter_id=adapters[n]) for n in range(0, 5_000, 1_000)])
    for n in range(0, 5_000, 1_000):
        said.put(thumb(f"f{n}", f"c{n}"))
    assert set(said.news_of(dict.fromkeys(adapters, 0))) == set(adapters[::1_000])


def test_feedback_is_listed_newest_first_and_filtered(
    log: InteractionStore, said: FeedbackStore
) -> None:
    log.append([answer("c1"), answer("c2", adapter_id=SALES)])
    said.put(thumb("f1", "c1", end_user="bob"))
    said.put(thumb("f2", "c2", name="score", value=4.0))
    said.put(thumb("f3", "c1", correction="On the hill.", created_at_s=400.0))

    def found(**where: Any) -> list[str]:
        return ids(said.list(ACME, **where))

    assert found() == ["f3", "f2", "f1"]
    assert found(completion_id="c1") == ["f3", "f1"]
    assert found(kind="score") == ["f2"]
    assert found(name="score") == ["f2"]
    assert found(end_user="bob") == ["f1"]
    assert found(adapter_id=SALES) == ["f2"]
    assert found(adapter_id=SUPPORT, kind="correction") == ["f3"]
    assert found(adapter_id=SUPPORT, kind="score") == []
    assert found(name="thumb", end_user="bob", completion_id="c1") == ["f1"]
    assert ids(said.list(ACME, adapter_id=SUPPORT, limit=1)) == ["f3"]
    assert ids(said.list(ACME, adapter_id=SUPPORT, after=FeedbackId("f3"))) == ["f1"]
    assert ids(said.list(OTHER, adapter_id=SUPPORT)) == []
    page = said.list(ACME, limit=2)
    assert (ids(page), page.has_more) == (["f3", "f2"], True)
    rest = said.list(ACME, after=FeedbackId("f2"))
    assert (ids(rest), rest.has_more) == (["f1"], False)


def test_a_change_does_not_move_an_item_in_the_list(said: FeedbackStore) -> None:
    for name in ("f1", "f2", "f3"):
        said.put(thumb(name, "c1"))
    said.put(thumb("f1", "c1", False))
    assert ids(said.list(ACME)) == ["f3", "f2", "f1"]


def test_feedback_and_its_answer_stored_at_the_same_time_always_meet(
    log: InteractionStore, said: FeedbackStore
) -> None:
    names = [f"c{n}" for n in range(20)]
    start = threading.Barrier(2)

    def judge() -> None:
        start.wait()
        for name in names:
            said.put(thumb(f"f-{name}", name))

    def answered() -> None:
        start.wait()
        for name in names:
            log.append([answer(name)])

    threads = [threading.Thread(target=judge), threading.Thread(target=answered)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(effective(said, SUPPORT)) == len(names)


def test_many_at_once_under_one_id_leave_one_item(said: FeedbackStore) -> None:
    changes: list[str] = []
    start = threading.Barrier(4)

    def put() -> None:
        start.wait()
        changes.append(said.put(thumb("f", "c1"))[1])

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changes) == ["created", "unchanged", "unchanged", "unchanged"]


def test_a_snapshot_is_entered_once_and_stays_as_it_was(database: Database) -> None:
    snapshot = freeze(SUPPORT, [], [], {"comment": 2}, 0.2)
    register(database, snapshot, "file:///one")
    register(database, snapshot, "file:///two")
    with database.read() as connection:
        (row,) = connection.execute(sa.select(snapshots)).mappings()
    assert (row["digest"], row["artifact_uri"]) == (snapshot.digest, "file:///one")
    assert row["counts"]["dropped"] == 2
