"""What the evaluation's statistics promise, with figures derived by hand."""

from __future__ import annotations

import random

import pytest

from trainer.judging.bootstrap import mean_interval, preference_margin


def test_the_interval_of_a_constant_is_that_constant() -> None:
    found = mean_interval([0.5, 0.5, 0.5], seed=1)
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 3)


def test_no_values_prove_nothing() -> None:
    assert mean_interval([], seed=1).n == 0
    assert preference_margin([], [], [], seed=1).n == 0


def test_the_interval_has_the_width_theory_predicts() -> None:
    """400 draws from N(0.3, 1): the 95 % interval is the mean ± 1.96 / sqrt(400) = ± 0.098."""
    rng = random.Random(3)
    found = mean_interval([rng.gauss(0.3, 1.0) for _ in range(400)], seed=1)
    assert found.high - found.mean == pytest.approx(0.098, abs=0.015)
    assert found.mean - found.low == pytest.approx(0.098, abs=0.015)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, -0.4, 0.9, 0.2]
    assert mean_interval(values, seed=7) == mean_interval(values, seed=7)


def test_raising_every_answer_alike_is_no_margin() -> None:
    found = preference_margin([], ups=[2.0, 2.0, 2.0], downs=[2.0, 2.0], seed=1)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_labels_are_compared_by_the_means_of_their_kinds() -> None:
    """Ups shift by 1 and 3 (mean 2), downs by -1 (mean -1): the margin is 3."""
    found = preference_margin([], ups=[1.0, 3.0], downs=[-1.0, -1.0], seed=1)
    assert found.mean == pytest.approx(3.0)
    assert found.low == pytest.approx(2.0)  # one resample in four draws the smaller up twice
    assert found.high == pytest.approx(4.0)


def test_labels_of_one_kind_only_say_nothing() -> None:
    assert preference_margin([], ups=[5.0, 6.0], downs=[], seed=1).n == 0


def test_unequal_labels_count_for_fewer_items() -> None:
    """4ud / (u + d): 10 and 10 are worth 20 items, 1 and 19 are worth 3 (3.8)."""
    assert preference_margin([], [0.0] * 10, [0.0] * 10, seed=1).n == 20
    assert preference_margin([], [0.0] * 1, [0.0] * 19, seed=1).n == 3


def test_pairs_and_labels_are_averaged_by_what_they_are_worth() -> None:
    """3 pairs at 2.0; 2 ups and 2 downs are worth 2·2·2/4 = 2 pairs at 7.0: (3·2 + 2·7) / 5 = 4."""
    found = preference_margin([2.0] * 3, ups=[4.0] * 2, downs=[-3.0] * 2, seed=1)
    assert found.mean == pytest.approx(4.0)
    assert found.n == 7
