"""Whether sampled answers became more like those people liked, by the tokens they are made of.

A likelihood says what a candidate would say more readily, not what is seen when it is asked; and
its own implicit reward always prefers its own answers (their mean is the KL). So the answers
people judged teach a small classifier of its own, and the answers that are really drawn are held
against that. Must not know: models, which shift is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from feedback.token_ids import Ids
from trainer.judging.bootstrap import mean_interval
from trainer.types import Interval, Taste

Floats = NDArray[np.float64]

MOST_JUDGED = 200
"""Liked and as many disliked answers that are learnt from; the kernel grows with the square."""
FEWEST_JUDGED = 3
_RIDGE = 1.0
_TIE = 1e-9


def taste(
    liked: Sequence[Ids],
    disliked: Sequence[Ids],
    before: Sequence[Ids],
    after: Sequence[Ids],
    seed: int,
) -> Taste | None:
    """How far the answers `after` lie from those `before` towards the liked ones.

    `before` and `after` answer the same prompts. None where fewer than three answers were
    liked, or disliked.

    The classifier is kernel ridge regression on the tokens and pairs of tokens that occur in an
    answer, both classes as heavy. What it can tell is measured on answers it left out: each
    liked one with each disliked one, for which ridge regression has a closed form.
    Source: Pahikkala et al., "Exact and efficient leave-pair-out cross-validation for ranking
    RLS" (2008).
    """
    liked, disliked = liked[-MOST_JUDGED:], disliked[-MOST_JUDGED:]
    if min(len(liked), len(disliked)) < FEWEST_JUDGED or not after:
        return None
    bags = [_bag(ids) for ids in (*liked, *disliked)]
    up = np.arange(len(bags)) < len(liked)
    kernel = _overlaps(bags, bags)
    # Each class as heavy as the other: targets whose mean is 0.
    target = np.where(up, 1 / len(liked), -1 / len(disliked)) * len(bags) / 2
    inverse = np.asarray(np.linalg.inv(kernel + _RIDGE * np.eye(len(bags))), dtype=np.float64)
    weights = inverse @ target
    over = _left_out(target, weights, inverse, up)
    told_apart, gap = _roc_area(over), float(over.mean())
    if gap <= 0:
        return Taste(told_apart, Interval(0.0, 0.0, 0.0, 0))
    new, old = (_overlaps([_bag(i) for i in ids], bags) @ weights for ids in (after, before))
    return Taste(told_apart, mean_interval([*((new - old) / gap)], seed))


def _bag(ids: Ids) -> frozenset[tuple[int, ...]]:
    return frozenset([*((one,) for one in ids), *pairwise(ids)])


def _overlaps(
    rows: Sequence[frozenset[tuple[int, ...]]], columns: Sequence[frozenset[tuple[int, ...]]]
) -> Floats:
    """The cosine of each two bags, [rows, columns]; 0 where one is empty."""
    return np.array(
        [[len(a & b) / max(1.0, (len(a) * len(b)) ** 0.5) for b in columns] for a in rows]
    )


def _left_out(target: Floats, weights: Floats, inverse: Floats, up: NDArray[np.bool_]) -> Floats:
    """How far each liked answer scores over each disliked one, neither learnt from, [up, down]."""
    own, other = np.diag(inverse)[up][:, None], np.diag(inverse)[~up][None, :]
    both = inverse[np.ix_(up, ~up)]
    liked, disliked = weights[up][:, None], weights[~up][None, :]
    missed = (other + both) * liked - (own + both) * disliked
    return target[up][:, None] - target[~up][None, :] - missed / (own * other - both**2)


def _roc_area(over: Floats) -> Interval:
    """How often a liked answer is over a disliked one, ties half, with its 95 % interval.

    Source: Hanley, McNeil, "The meaning and use of the area under a ROC curve", 1982.
    """
    ups, downs = over.shape
    tied = np.abs(over) < _TIE
    area = float(np.where(tied, 0.5, over > 0).mean())
    of_up, of_down = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (ups - 1) * (of_up - area**2) + (downs - 1) * (of_down - area**2)
    # With few answers the spread about 0.5, which is Mann and Whitney's, is the larger one.
    spread = max(spread, (ups + downs + 1) / 12)
    error = 1.96 * (spread / (ups * downs)) ** 0.5
    return Interval(area, max(0.0, area - error), min(1.0, area + error), ups + downs)
