"""People who rate the answers they get: which answers, and how many until enough were liked.

They ask one question after another and rate each answer as it comes. Where too few are liked to
learn from, they go on asking and rate only what they like, in the place of the last disliked ones,
so that the number of thumbs stays what it was; how many answers that took is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deploy.bench.tastes.asking import Received
from deploy.bench.tastes.judges import Said

FEWEST_UPS = 6
_UPS_SHARE = 8
"""At least one thumb of so many is up, and six in any case."""
MOST_LOOKED_AT = 2_000


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Rated answers; `looked_at` is how many had to be read for them."""

    rated: tuple[tuple[Received, bool], ...]
    looked_at: int

    @property
    def ups(self) -> list[Received]:
        """The liked ones."""
        return [answer for answer, liked in self.rated if liked]


class Stream:
    """Answers of the base in the order they are received, made a round at a time, kept."""

    def __init__(self, round_of: Callable[[int], list[Received]]) -> None:
        self._round_of = round_of
        self._rounds: list[list[Received]] = []

    def __iter__(self) -> Iterator[Received]:
        number = 0
        while True:
            if number == len(self._rounds):
                self._rounds.append(self._round_of(number))
            yield from self._rounds[number]
            number += 1


def rate(stream: Stream, likes: Callable[[Said], bool], count: int) -> Thumbs:
    """`count` thumbs on answers of `stream`; fewer ups if 2,000 answers have no more."""
    wanted = min(count, max(FEWEST_UPS, count // _UPS_SHARE))
    ups: list[Received] = []
    downs: list[Received] = []
    looked_at = 0
    for answer in stream:
        if looked_at >= max(count, MOST_LOOKED_AT):
            break
        if looked_at >= count and len(ups) >= wanted:
            break
        looked_at += 1
        if likes(answer.said):
            ups.append(answer)
        elif looked_at <= count:
            downs.append(answer)
    rated = [(answer, True) for answer in ups]
    rated += [(answer, False) for answer in downs[: max(0, count - len(ups))]]
    return Thumbs(tuple(rated), looked_at)
