"""Which example goes into which step: shuffling, interleaving and weights, as pure functions.

Owns the order in which examples are seen. Must not know: torch, tokens, trainers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from feedback.types import Label, Pair

T = TypeVar("T")


def passes(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` items: whole passes over `items`, each in a new random order."""
    rng = random.Random(seed)
    found: list[T] = []
    while len(found) < count:
        found += rng.sample(list(items), len(items))
    return found[:count]


def interleaved_passes(ups: Sequence[T], downs: Sequence[T], count: int, seed: int) -> list[T]:
    """Like `passes`, with both kinds spread evenly over each pass.

    Every stretch of a pass then holds both in the proportion of the whole, give or take one, so
    that no step sees one kind alone.
    """
    rng = random.Random(seed)
    found: list[T] = []
    while len(found) < count:
        placed = [
            ((place + rng.random()) / len(kind), item)
            for kind in (ups, downs)
            for place, item in enumerate(rng.sample(list(kind), len(kind)))
        ]
        found += [item for _, item in sorted(placed, key=lambda entry: entry[0])]
    return found[:count]


def label_weights(ups: int, downs: int) -> tuple[float, float]:
    """Loss weights of desirable and undesirable labels that let both kinds pull equally.

    The rarer kind is weighted by the ratio of counts, the other by 1.

    Source: Ethayarajh et al. 2024, KTO, equation 8 (lower end of its range).
    """
    return max(1.0, downs / ups), max(1.0, ups / downs)


def pairs_as_labels(pairs: Sequence[Pair]) -> list[Label]:
    """Each pair as two labels, so that KTO can learn from thumbs and comparisons at once."""
    return [
        Label(
            prompt=pair.prompt,
            completion=completion,
            desirable=desirable,
            version=pair.version,
            end_user=pair.end_user,
            at_s=pair.at_s,
            feedback_ids=pair.feedback_ids,
            interaction_ids=pair.interaction_ids,
        )
        for pair in pairs
        for completion, desirable in ((pair.chosen, True), (pair.rejected, False))
    ]
