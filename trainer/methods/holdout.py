"""Which examples of a training are watched instead of learnt from, by their prompts. Pure.

The gate's held-out side is another one: it is set apart before training, and no method sees it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Generic

from trainer.methods.method import E, Encoded, Judged, Method

FEWEST = 4
"""Answers of each kind without which a margin is chance alone: then nothing is set apart."""
MOST = 48
"""Answers of each kind that are watched; more cost time and tell little more."""


@dataclass(frozen=True, slots=True)
class Split(Generic[E]):
    """What is learnt from, and the liked and disliked answers that are watched."""

    learnt: Encoded[E]
    watched: Judged


def split(method: Method[E], examples: Encoded[E], share: float) -> Split[E]:
    """Set `share` of the prompts apart, of those with a liked answer and of the others alike.

    By a hash of the prompt, so that the same examples are always split alike. Nothing is set apart
    where less than `FEWEST` answers of a kind the examples have would be watched, or learnt from.
    """
    prompts: dict[str, list[int]] = {}
    for at, (_, tokens) in enumerate(examples):
        prompts.setdefault(hashlib.sha256(repr(tokens[0]).encode()).hexdigest(), []).append(at)
    kinds: tuple[list[str], list[str]] = ([], [])
    for prompt in sorted(prompts):
        liked = any(method.judged(*examples[at]).liked for at in prompts[prompt])
        kinds[liked].append(prompt)
    apart = {
        at
        for kind in kinds
        for prompt in kind[: round(share * len(kind))]
        for at in prompts[prompt]
    }
    watched = _judged(method, [examples[at] for at in sorted(apart)])
    learnt = [example for at, example in enumerate(examples) if at not in apart]
    if not _enough(_judged(method, examples), watched, _judged(method, learnt)):
        return Split(examples, Judged())
    return Split(learnt, Judged(watched.liked[:MOST], watched.disliked[:MOST]))


def _judged(method: Method[E], examples: Encoded[E]) -> Judged:
    each = [method.judged(*example) for example in examples]
    return Judged(
        tuple(row for one in each for row in one.liked),
        tuple(row for one in each for row in one.disliked),
    )


def _enough(whole: Judged, *parts: Judged) -> bool:
    needed = [min(FEWEST, len(kind)) for kind in (whole.liked, whole.disliked)]
    return all(
        len(kind) >= fewest
        for part in parts
        for kind, fewest in zip((part.liked, part.disliked), needed, strict=True)
    ) and bool(whole.liked)
