"""Which rows of a step go through the model together."""

from __future__ import annotations

import random

import pytest

from trainer.methods.parts import divide


def test_a_step_that_fits_is_one_part_in_its_own_order() -> None:
    assert divide([3, 9, 4], 27) == [[0, 1, 2]]


def test_rows_of_similar_length_go_together() -> None:
    """9 and 8 fill 18 tokens, padding counted; then 4, 3, 3 and 2 fill 16."""
    assert divide([3, 9, 4, 8, 2, 3], 18) == [[1, 3], [2, 0, 5, 4]]


def test_a_row_that_is_longer_than_a_part_may_be_is_one_by_itself() -> None:
    assert divide([50, 2, 2], 10) == [[0], [1, 2]]


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_in_one_part_and_no_part_of_several_is_too_large(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 60) for _ in range(rng.randint(1, 40))]
    most = rng.randint(1, 200)
    parts = divide(lengths, most)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= most
