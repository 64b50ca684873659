"""When a sampled answer counts as broken, and how far such answers may grow in number."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from trainer.judging.faults import faults, is_empty, repetition
from trainer.judging.thresholds import fault_checks
from trainer.types import GateLimits


@dataclass(frozen=True)
class Said:
    """An answer, as many tokens as it has ids."""

    text: str = "The lamp is red."
    ids: tuple[int, ...] = tuple(range(20))
    ended: bool = True


FINE, CUT, BLANK = Said(), Said(ended=False), Said(text=" \n", ids=(2,))
LOOP = Said(text="so so so", ids=(7,) * 20)


def failed(before: list[Said], after: list[Said], endless_wanted: float = 0.0) -> list[str]:
    found = faults(before, after, endless_wanted, seed=0)
    assert found is not None
    return [check.name for check in fault_checks(found, GateLimits()) if not check.passed]


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ((), 0.0),
        ((1, 2, 3), 0.0),
        ((1, 2, 3, 4), 0.0),
        ((5, 5, 5, 5, 5), 0.5),  # two 4-grams, one of them new
        ((1, 2, 3, 4, 1, 2, 3, 4), 0.2),  # 1234 2341 3412 4123 1234
        (tuple(range(100)), 0.0),
    ],
)
def test_repetition_is_the_share_of_4_grams_said_before(ids: tuple[int, ...], share: float) -> None:
    assert repetition(ids) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "empty"),
    [("", True), (" \n\t", True), ("\ufffd", True), ("👍", False), (".", False), ("好", False)],
)
def test_an_answer_without_anything_to_read_is_empty(text: str, empty: bool) -> None:
    assert is_empty(text) is empty


def test_answers_like_those_before_have_no_fault() -> None:
    answers = [FINE, CUT, LOOP, BLANK] * 10
    assert failed(answers, answers) == []


@pytest.mark.parametrize(
    ("broken", "name"),
    [(CUT, "endless answers"), (BLANK, "empty answers"), (LOOP, "repetition")],
)
def test_each_fault_is_caught_by_its_own_check(broken: Said, name: str) -> None:
    assert failed([FINE] * 60, [FINE] * 40 + [broken] * 20) == [name]


def test_a_reference_that_is_broken_does_not_count_against_the_candidate() -> None:
    """Both cut and repeat half of their answers, though not the same ones."""
    before, after = [CUT, FINE, LOOP, FINE] * 15, [FINE, CUT, FINE, LOOP] * 15
    assert failed(before, after) == []


def test_a_rise_that_may_be_chance_passes_up_to_a_bound() -> None:
    """12 of 64 more are cut, 9 of those by chance the other way: 19 points, not proven, or so."""
    before = [CUT] * 26 + [FINE] * 38
    assert failed(before, [FINE] * 20 + [CUT] * 32 + [FINE] * 12) == []
    assert failed(before, [CUT] * 26 + [CUT] * 12 + [FINE] * 26) == ["endless answers"]


def test_answers_may_be_as_long_as_people_like_them() -> None:
    before, after = [FINE] * 64, [CUT] * 40 + [FINE] * 24
    assert failed(before, after) == ["endless answers"]
    assert failed(before, after, endless_wanted=0.9) == []


def test_no_answers_have_no_faults() -> None:
    assert faults([], [], 0.0, seed=0) is None
