"""Looking back at answers: every filter, pages that follow each other, and none too large."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.database import Database
from core.errors import NotFound
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback import history
from feedback.history import Wanted
from feedback.interactions import InteractionStore
from feedback.store import FeedbackStore
from feedback.types import Choice, Comparison, Feedback, Interaction

ACME, OTHER = TenantId("ten_acme"), TenantId("ten_other")
SUPPORT = AdapterId("ada_support")


def answer(name: str, at_s: float = 100.0, **changes: Any) -> Interaction:
    plain = Interaction(
        *(CompletionId(name), ACME, "chat.completions", at_s, "completed", "support", "support@7"),
        *(SUPPORT, 7, False, ({"role": "user", "content": "Hi"},), ("Hello.",), "stop"),
    )
    return replace(plain, **changes)


def thumb(about: str) -> Feedback:
    return Feedback(FeedbackId(f"on-{about}"), ACME, 1.0, CompletionId(about), value=True)


@pytest.fixture
def log(database: Database) -> InteractionStore:
    return InteractionStore(database)


@pytest.fixture
def said(database: Database) -> FeedbackStore:
    return FeedbackStore(database)


def names(log: InteractionStore, wanted: Wanted, limit: int = 200) -> list[str]:
    """All that match, page by page."""
    found: list[str] = []
    after = None
    while True:
        page = log.list(ACME, wanted, after=after, limit=limit)
        assert len(page.items) <= limit
        found += [one.id for one in page.items]
        if not page.has_more:
            return found
        assert page.after is not None
        after = CompletionId(page.after)


ODD_ONE = {
    "adapter_id": AdapterId("ada_sales"),
    "outcome": "cancelled",
    "endpoint": "messages",
    "model_answered": "sales@1",
    "end_user": "ann",
    "domain": "ferries",
    "conversation_id": "c1",
}


@pytest.mark.parametrize("field", sorted(ODD_ONE))
def test_each_filter_finds_what_has_its_value_and_nothing_else(
    log: InteractionStore, field: str
) -> None:
    odd = {field: ODD_ONE[field]}
    log.append([answer("a"), answer("b", **odd), answer("c"), answer("d", tenant_id=OTHER, **odd)])
    assert names(log, Wanted(**odd)) == ["b"]
    assert names(log, Wanted()) == ["c", "b", "a"]
    both: dict[str, Any] = {**odd, "model_answered": odd.get("model_answered", "support@7")}
    assert names(log, Wanted(**both, since_s=50.0, until_s=100.5)) == ["b"]
    assert names(log, Wanted(**{**both, "model_answered": "nobody@1"})) == []


def test_names_are_compared_in_one_spelling(log: InteractionStore) -> None:
    log.append([answer("a", end_user="m\u00fcller")])
    assert names(log, Wanted(end_user="mu\u0308ller")) == ["a"]


def test_those_asked_last_come_first_however_late_they_are_logged(log: InteractionStore) -> None:
    log.append([answer("second", 200.0), answer("third", 300.0)])
    log.append([answer("first", 100.0), answer("also third", 300.0)])
    assert names(log, Wanted(), limit=1) == ["also third", "third", "second", "first"]
    assert names(log, Wanted(since_s=200.0, until_s=300.0)) == ["second"]


def test_judged_is_what_any_feedback_speaks_of(log: InteractionStore, said: FeedbackStore) -> None:
    log.append([answer(name, at_s) for at_s, name in enumerate("abcdef")])
    said.put(thumb("b"))
    said.put(thumb("early"))
    compared = Comparison(CompletionId("d"), (CompletionId("e"),))
    said.put(Feedback(FeedbackId("pair"), ACME, 1.0, comparison=compared))
    assert names(log, Wanted(judged=True), limit=2) == ["e", "d", "b"]
    assert names(log, Wanted(judged=False), limit=2) == ["f", "c", "a"]
    assert names(log, Wanted(judged=True, end_user="nobody")) == []
    said.delete(ACME, FeedbackId("pair"))
    assert names(log, Wanted(judged=True)) == ["b"]


def test_of_many_judgements_the_newest_answers_are_found_too(
    log: InteractionStore, said: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_FEW", 2)
    log.append([answer(f"c{n:02}", n) for n in range(30)])
    for n in range(0, 30, 7):
        said.put(thumb(f"c{n:02}"))
    assert names(log, Wanted(judged=True), limit=2) == ["c28", "c21", "c14", "c07", "c00"]


def test_a_page_looks_at_so_many_and_says_where_to_go_on(
    log: InteractionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_AT_ONCE", 5)
    monkeypatch.setattr(history, "LOOKED_AT", 10)
    rare = {3: {"end_user": "ann"}, 27: {"end_user": "ann"}}
    log.append([answer(f"c{n:02}", n, **rare.get(n, {})) for n in range(30)])
    wanted = Wanted(outcome="completed", end_user="ann", model_answered="support@7")
    assert names(log, wanted) == ["c27", "c03"]
    monkeypatch.setattr(history, "_rarest", lambda *_: "outcome")  # that which leaves everything
    page = log.list(ACME, wanted)
    assert ([one.id for one in page.items], page.has_more, page.after) == (["c27"], True, "c20")
    page = log.list(ACME, wanted, after=CompletionId("c20"))
    assert (page.items, page.has_more, page.after) == ((), True, "c10")
    assert names(log, wanted) == ["c27", "c03"]


def test_a_page_holds_only_so_much_text_but_always_one_answer(
    log: InteractionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST_CHARS", 5_000)
    log.append([answer(f"c{n}", n, answers=("x" * 2_000,)) for n in range(5)])
    log.append([answer("huge", 9.0, tokens=bytes(20_000))])
    pages = [log.list(ACME, limit=3), log.list(ACME, limit=3, after=CompletionId("huge"))]
    assert [[one.id for one in page.items] for page in pages] == [["huge"], ["c4", "c3"]]
    assert names(log, Wanted(), limit=3) == ["huge", "c4", "c3", "c2", "c1", "c0"]


def test_one_answer_is_found_by_its_tenant_with_all_that_is_known(log: InteractionStore) -> None:
    call = {"id": "c1", "function": {"name": "pay", "arguments": "{}"}}
    told = (Choice("stop", "\n", "Hm \ud83d"), Choice(None), Choice("tool_calls", 0, None, (call,)))
    kept = answer("a", answers=("x", "y", ""), choices=told, tokens=b"\0\1")
    log.append([kept, answer("b")])
    read = log.get(ACME, CompletionId("a"))
    assert read == replace(kept, choices=read.choices)
    assert [one.finish_reason for one in read.choices] == ["stop", None, "tool_calls"]
    assert read.choices[2].tool_calls == (call,)
    assert read.choices[0].stop_reason == "\n"
    assert log.get(ACME, CompletionId("b")).choice(0) == Choice("stop")
    for tenant, name in ((OTHER, "a"), (ACME, "c")):
        with pytest.raises(NotFound):
            log.get(tenant, CompletionId(name))


def test_of_each_answer_the_newest_said_of_it_is_told(
    log: InteractionStore, said: FeedbackStore
) -> None:
    log.append([answer("a"), answer("b"), answer("c")])
    for number in range(5):
        item = Feedback(FeedbackId(f"f{number}"), ACME, 1.0, CompletionId("a"), comment="So.")
        said.put(item)
    compared = Comparison(CompletionId("a"), (CompletionId("b"),))
    said.put(Feedback(FeedbackId("pair"), ACME, 1.0, comparison=compared))
    every = [CompletionId(name) for name in "abc"]
    found = said.about(ACME, every, each=3)
    assert {name: [item.id for item in items] for name, items in found.items()} == {
        "a": ["pair", "f4", "f3"],
        "b": ["pair"],
    }
    assert said.about(OTHER, every) == {}


@pytest.mark.parametrize(
    ("changes", "arm"),
    [
        ({}, "live"), ({"model_requested": "auto"}, "live"),
        ({"model_requested": "support@7"}, "pinned"),
        ({"version": None, "explored": True}, "exploration"),
        ({"version": None}, "base"), ({"version": None, "adapter_id": None}, "base"),
        ({"request": {"edge": {"device": "d"}}}, "device"),
    ],
)  # fmt: skip
def test_the_arm_says_why_it_answered(changes: dict[str, Any], arm: str) -> None:
    assert answer("a", **changes).arm == arm


def test_what_earlier_releases_kept_is_told_as_far_as_it_is_known() -> None:
    calls = [{"id": "c1"}]
    one = answer("a", response={"tool_calls": calls}, finish_reason="tool_calls")
    assert one.choice(0) == Choice("tool_calls", tool_calls=({"id": "c1"},))
    several = replace(one, answers=("x", "y"))
    assert [several.choice(0), several.choice(1)] == [Choice(), Choice()]
