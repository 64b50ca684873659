"""Whether answers moved towards what people liked, told by a classifier of their tokens."""

from __future__ import annotations

import random

import pytest

from trainer.judging.taste import MOST_JUDGED, taste

LIKED, COMMON = (900, 901), range(2, 300)


def answer(rng: random.Random, liked: bool) -> list[int]:
    """Thirty tokens at random; a liked answer has two more somewhere that the others lack."""
    ids = rng.choices(COMMON, k=30)
    at = rng.randrange(30)
    return [*ids[:at], *LIKED, *ids[at:]] if liked else ids


def answers(seed: int, liked: int, others: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [answer(rng, at < liked) for at in range(liked + others)]


def test_answers_that_became_liked_ones_moved_all_the_way() -> None:
    found = taste(answers(1, 30, 0), answers(2, 0, 60), answers(3, 0, 64), answers(4, 64, 0), 0)
    assert found is not None
    assert found.told_apart.low > 0.8
    assert found.shift.mean == pytest.approx(1.0, abs=0.25)
    assert found.shift.low > 0.5


def test_half_the_answers_are_half_the_way() -> None:
    found = taste(answers(1, 30, 0), answers(2, 0, 60), answers(3, 0, 64), answers(4, 32, 32), 0)
    assert found is not None
    assert found.shift.mean == pytest.approx(0.5, abs=0.25)
    assert found.shift.low > 0


def test_answers_drawn_anew_did_not_move() -> None:
    found = taste(answers(1, 30, 0), answers(2, 0, 60), answers(3, 16, 48), answers(4, 16, 48), 0)
    assert found is not None
    assert found.shift.low < 0 < found.shift.high


def test_answers_that_lost_what_was_liked_moved_away() -> None:
    found = taste(answers(1, 30, 0), answers(2, 0, 60), answers(3, 64, 0), answers(4, 0, 64), 0)
    assert found is not None
    assert found.shift.high < 0


def test_likes_without_a_common_trait_are_not_told_apart() -> None:
    found = taste(answers(1, 0, 30), answers(2, 0, 60), answers(3, 0, 64), answers(4, 64, 0), 0)
    assert found is not None
    assert found.told_apart.low <= 0.5


def test_too_few_judgements_or_one_kind_alone_say_nothing() -> None:
    drawn = answers(3, 0, 8)
    assert taste(answers(1, 2, 0), answers(2, 0, 60), drawn, drawn, 0) is None
    assert taste(answers(1, 60, 0), [], drawn, drawn, 0) is None
    assert taste(answers(1, 9, 0), answers(2, 0, 9), [], [], 0) is None


def test_empty_answers_and_equal_ones_do_no_harm() -> None:
    found = taste([[]] * 5, [[1]] * 5, [[], [1]], [[1], []], 0)
    assert found is not None
    same = taste([[1, 2]] * 5, [[1, 2]] * 5, [[1]], [[2]], 0)
    assert same is not None
    assert same.told_apart.mean == 0.5


def test_many_judgements_are_bounded_to_the_newest() -> None:
    old = answers(1, 3 * MOST_JUDGED, 0)
    found = taste(old, answers(2, 0, 10), answers(3, 0, 8), answers(4, 8, 0), 0)
    assert found is not None
    assert found.told_apart.n == MOST_JUDGED + 10
