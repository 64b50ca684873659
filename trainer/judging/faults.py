"""What is plainly wrong with sampled answers: endless, empty, saying the same again and again.

Owns when an answer counts as such, as pure functions of its tokens. Must not know: models, how
many of them are too many.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Protocol

from trainer.judging.bootstrap import mean_interval
from trainer.types import AnswerFaults, Compared

_NGRAM = 4


class Sampled(Protocol):
    """An answer as it was drawn; `ids` has the end token if the model `ended` by itself."""

    @property
    def text(self) -> str: ...
    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def ended(self) -> bool: ...


def faults(
    before: Sequence[Sampled], after: Sequence[Sampled], endless_wanted: float, seed: int
) -> AnswerFaults | None:
    """The candidate's answers `after` held against the reference's to the same prompts.

    None for no answers.
    """
    if not after:
        return None

    def compared(figure: Callable[[Sampled], float]) -> Compared:
        old, new = [*map(figure, before)], [*map(figure, after)]
        shifts = [b - a for a, b in zip(old, new, strict=True)]
        return Compared(statistics.fmean(new), statistics.fmean(old), mean_interval(shifts, seed))

    return AnswerFaults(
        endless=compared(lambda answer: float(not answer.ended)),
        empty=compared(lambda answer: float(is_empty(answer.text))),
        repetition=compared(lambda answer: repetition(answer.ids)),
        endless_wanted=endless_wanted,
    )


def is_empty(text: str) -> bool:
    """Whether there is nothing to read: no characters, or only such that stand for none."""
    return not text.replace("\ufffd", "").strip()


def repetition(ids: Sequence[int]) -> float:
    """The share of 4-grams that occurred before in the answer; 0 for fewer than two of them.

    Source: seq-rep-4 of Welleck et al., "Neural Text Generation with Unlikelihood Training",
    arXiv 1908.04319, section 6.
    """
    grams = [*zip(*(ids[at:] for at in range(_NGRAM)), strict=False)]
    return 1.0 - len({*grams}) / len(grams) if grams else 0.0
