"""Metrics by tenant or adapter whose number stays bounded, whoever comes and goes.

Only the busiest get a series of their own; everybody else shares one. Who is no longer among the
busiest loses theirs: its value starts from zero if it comes back, which rates bear.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prometheus_client import Counter

OTHER = "other"
_SPARE = 8  # keys watched for each that is named: enough to notice who grows


class Busiest:
    """The `n` keys counted most often of late; remembers `8 n` of any number of them.

    Who is named is reviewed every `review_every` counts; between reviews counts are halved, so that
    the past fades, and who is named must be twice as quiet as another to lose the place. Counts
    follow the space-saving scheme: a newcomer inherits the count of whom it replaces.
    Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements
    in data streams", ICDT 2005.
    """

    def __init__(self, n: int, *, review_every: int = 1000) -> None:
        self._n = n
        self._review_every = review_every
        self._counts: dict[tuple[str, ...], int] = {}
        self._left = review_every
        self.named: set[tuple[str, ...]] = set()

    def count(self, key: tuple[str, ...]) -> set[tuple[str, ...]]:
        """Count one; who lost their name by it (nearly always nobody)."""
        count = self._counts.get(key, 0)
        if count == 0 and len(self._counts) >= self._n * _SPARE:
            # A name is lost at a review only, so who is named stays among the counted.
            others = (known for known in self._counts if known not in self.named)
            count = self._counts.pop(min(others, key=self._counts.__getitem__))
        self._counts[key] = count + 1
        if len(self.named) < self._n:
            self.named.add(key)
        self._left -= 1
        return set() if self._left else self._review()

    def _review(self) -> set[tuple[str, ...]]:
        self._left = self._review_every
        weights = {key: n * (2 if key in self.named else 1) for key, n in self._counts.items()}
        best = set(sorted(weights, key=weights.__getitem__, reverse=True)[: self._n])
        lost, self.named = self.named - best, best
        self._counts = {key: n // 2 for key, n in self._counts.items() if n > 1 or key in best}
        return lost


class BusiestCounters:
    """Counters with the labels `by`, which say whom they count, and perhaps others: a value of
    its own in `by` for each of the `n` busiest, OTHER for the rest."""

    def __init__(
        self, n: int, by: Sequence[str], *counters: Counter, review_every: int = 1000
    ) -> None:
        self._by = tuple(by)
        self._counters = counters
        self._busiest = Busiest(n, review_every=review_every)
        self._lock = threading.Lock()

    def count(self, *key: str) -> dict[str, str]:
        """Count one request of `key`; the labels `by` to add its figures under."""
        with self._lock:
            for lost in self._busiest.count(key):
                for counter in self._counters:
                    counter.remove_by_labels(dict(zip(self._by, lost, strict=True)))
            if key not in self._busiest.named:
                key = (OTHER,) * len(self._by)
        return dict(zip(self._by, key, strict=True))
