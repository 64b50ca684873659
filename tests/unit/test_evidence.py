"""When a training has done enough: the rule, on figures made up here."""

from __future__ import annotations

import math

import pytest

from trainer.methods.evidence import Look, look_steps, weigh


def looks(*figures: tuple[float, float | None]) -> list[Look]:
    return [Look(10 * (at + 1), *figure) for at, figure in enumerate(figures)]


def test_the_largest_margin_within_the_budget_is_kept() -> None:
    found = weigh(looks((0.5, 1.0), (1.0, 3.0), (2.0, 2.0)), kl_budget=2.5, patience=3)
    assert (found.best.step, found.stop) == (20, None)


def test_a_long_answer_may_be_further_away() -> None:
    long = [Look(1, 3.0, tokens=50.0), Look(2, 3.0, tokens=50.0)]
    assert weigh(long, 2.0, 3, kl_token_budget=0.02).best.step == 2
    found = weigh(long, 2.0, 3, kl_token_budget=0.01)
    assert (found.best.step, found.stop) == (1, "KL 3.00 is over its budget of 2.5 nats an answer")


def test_of_equal_margins_the_first_is_kept() -> None:
    assert weigh(looks((0.5, 1.0), (1.0, 1.0)), 2.5, 3).best.step == 10


def test_a_better_margin_over_the_budget_is_not_kept_and_a_second_one_ends_it() -> None:
    over = looks((0.5, 1.0), (2.6, 9.0), (2.7, 9.5))
    assert weigh(over[:2], 2.5, 3).stop is None
    found = weigh(over, 2.5, 3)
    assert found.best.step == 10
    assert found.stop == "KL 2.70 is over its budget of 2.5 nats an answer"


def test_what_overshoots_and_settles_again_goes_on() -> None:
    found = weigh(looks((1.0, None), (2.6, None), (2.1, None), (2.6, None)), 2.5, 3)
    assert (found.best.step, found.stop) == (30, None)


def test_without_a_holdout_the_last_look_within_the_budget_is_kept() -> None:
    assert weigh(looks((0.5, None), (1.0, None)), 2.5, 1).best.step == 20
    found = weigh(looks((0.5, None), (1.0, None), (3.0, None), (3.5, None)), 2.5, 1)
    assert found.best.step == 20
    assert found.stop is not None


@pytest.mark.parametrize(("patience", "stops"), [(2, True), (3, False)])
def test_it_ends_after_as_many_looks_without_a_better_margin(patience: int, stops: bool) -> None:
    found = weigh(looks((0.1, 3.0), (0.2, 2.0), (0.3, 2.9)), 2.5, patience)
    assert found.best.step == 10
    assert (found.stop is not None) == stops


def test_where_every_look_is_over_the_budget_the_first_is_kept() -> None:
    found = weigh(looks((7.0, None), (8.0, None)), 2.5, 3)
    assert (found.best.step, found.stop is not None) == (10, True)


def test_a_kl_that_is_no_number_ends_it_and_a_margin_that_is_none_is_the_worst() -> None:
    lost = looks((0.5, None), (math.nan, None), (math.nan, None))
    found = weigh(lost, 2.5, 3)
    assert (found.best.step, found.stop is not None) == (10, True)
    assert weigh(looks((0.5, -4.0), (0.6, math.nan)), 2.5, 3).best.step == 10


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [
        (40, 8, (5, 10, 15, 20, 25, 30, 35, 40)),
        (3, 8, (1, 2, 3)),
        (1, 8, (1,)),
        (10, 4, (3, 5, 8, 10)),
    ],
)
def test_looks_are_spread_evenly_and_the_last_step_is_one(
    steps: int, count: int, expected: tuple[int, ...]
) -> None:
    assert look_steps(steps, count) == expected
