"""When a run starts, on hand-made counts; `Learning`'s docstring is the rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.types import Learning
from feedback.learning.due import Known, due, missing
from feedback.learning.telling import in_words

RULES = Learning(min_labels=32, min_minority=6, min_pairs=16, new_items=8, max_age_s=600.0)
READY: dict[str, Any] = {
    "labels_up": 7,
    "labels_down": 25,
    "pairs": 0,
    "new_items": 8,
    "age_s": 1.0,
}


def test_enough_labels_with_news_are_a_reason() -> None:
    assert due(RULES, **READY) == "8 new; 7 up, 25 down, 0 pairs"


@pytest.mark.parametrize(
    "counts",
    [
        {"labels_down": 24},  # 31 labels
        {"labels_up": 5, "labels_down": 40},  # the rarer kind is too rare
        {"labels_up": 40, "labels_down": 5},
        {"new_items": 7},
        {"new_items": 0, "age_s": 0.0},
        {"new_items": 0, "age_s": 1_001.0},  # age without news is none
    ],
)
def test_a_run_waits_for_what_is_missing(counts: dict[str, Any]) -> None:
    assert due(RULES, **{**READY, **counts}) is None


def test_enough_pairs_are_a_reason_of_their_own() -> None:
    counts = {**READY, "labels_up": 0, "labels_down": 0}
    assert due(RULES, **{**counts, "pairs": 15}) is None
    assert due(RULES, **{**counts, "pairs": 16}) is not None


def test_a_single_new_item_is_enough_once_it_has_waited() -> None:
    counts = {**READY, "new_items": 1}
    assert due(RULES, **{**counts, "age_s": 599.9}) is None
    reason = due(RULES, **{**counts, "age_s": 600.0})
    assert reason == "1 new, waited 600 s; 7 up, 25 down, 0 pairs"


def test_an_adapter_that_does_not_learn_is_never_due() -> None:
    off = replace(RULES, enabled=False)
    assert due(off, **READY) is None


def test_nothing_known_is_never_due_however_low_the_limits() -> None:
    open_to_all = Learning(min_labels=0, min_minority=0, min_pairs=0, new_items=0)
    assert due(open_to_all, 0, 0, 0, 5, 1e9) is None


count = st.integers(0, 60)


@settings(derandomize=True, deadline=None)
@given(up=count, down=count, pairs=count, new=count, age=st.floats(0, 2_000), low=count)
def test_there_is_a_reason_exactly_when_the_documented_rule_holds_and_it_fits(
    up: int, down: int, pairs: int, new: int, age: float, low: int
) -> None:
    rules = replace(RULES, min_labels=low, min_minority=low // 5, min_pairs=low, new_items=low)
    reason = due(rules, up, down, pairs, new, age)
    labels = up + down >= max(low, 1) and min(up, down) >= max(low // 5, 1)
    enough = labels or pairs >= max(low, 1)
    news = new >= max(low, 1) or (new > 0 and age >= rules.max_age_s)
    assert (reason is not None) == (enough and news)
    assert reason is None or 0 < len(reason) <= 64


def test_the_reason_of_a_huge_adapter_is_cut_to_fit() -> None:
    huge = {"labels_up": 10**18, "labels_down": 10**18, "pairs": 10**18, "new_items": 10**18}
    assert len(due(RULES, **{**READY, **huge}) or "") == 64


def found(
    labels_up: int, labels_down: int, pairs: int, new_items: int, age_s: float, at_s: float
) -> Known:
    oldest_at_s = at_s - age_s if new_items else None
    return Known(labels_up, labels_down, pairs, new_items, oldest_at_s, oldest_at_s)


@given(
    counts=st.tuples(*[st.integers(0, 40)] * 4),
    age_s=st.floats(0, 1_200),
    wanted=st.tuples(*[st.integers(0, 36)] * 4),
    enabled=st.booleans(),
)
def test_nothing_is_missing_exactly_when_a_run_is_due(
    counts: tuple[int, ...], age_s: float, wanted: tuple[int, ...], enabled: bool
) -> None:
    names = ("min_labels", "min_minority", "min_pairs", "new_items")
    rules = replace(RULES, enabled=enabled, **dict(zip(names, wanted, strict=True)))
    at_s = 10_000.0
    known = found(*counts, age_s, at_s)
    age_s = at_s - (at_s if known.oldest_at_s is None else known.oldest_at_s)
    lacks = missing(rules, known, at_s)
    complete = enabled and lacks.enough_known and lacks.new_items == 0
    assert complete == (due(rules, *counts, age_s) is not None)
    assert in_words(rules, lacks, at_s).endswith("due.") == complete


@pytest.mark.parametrize(
    ("counts", "changes", "told"),
    [
        (
            (4, 25, 2, 2, 0.0),
            {},
            "Missing for a run: 3 of 32 labels, 2 of 6 up (or 14 of 16 pairs); and 6 more new "
            "items, or 10 minutes.",
        ),
        ((7, 25, 0, 7, 570.0), {}, "Missing for a run: 1 more new item, or 30 seconds."),
        ((7, 25, 0, 0, 0.0), {}, "Missing for a run: 8 more new items."),
        ((0, 0, 9, 9, 0.0), {"method": "sft"}, "Missing for a run: 7 of 16 corrections."),
        ((0, 0, 9, 9, 0.0), {"method": "dpo"}, "Missing for a run: 7 of 16 pairs."),
        ((7, 25, 0, 8, 0.0), {}, "Enough is known and new: a run is due."),
        (
            (7, 25, 0, 8, 0.0),
            {"enabled": False},
            "Learning is off: set learning.enabled, or start a run by hand.",
        ),
    ],
)
def test_what_is_missing_is_told_in_a_sentence(
    counts: tuple[Any, ...], changes: dict[str, Any], told: str
) -> None:
    rules = replace(RULES, **changes)
    lacks = missing(rules, found(*counts, at_s=10_000.0), 10_000.0)
    assert in_words(rules, lacks, 10_000.0) == told
