"""Which example goes into which step: shuffling and interleaving, as pure functions.

Owns the order in which examples are seen. Must not know: torch, tokens, trainers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

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
