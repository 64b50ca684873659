"""When a run starts, on hand-made counts; `Learning`'s docstring is the rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.types import Learning
from trainer.runs.due import due

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
