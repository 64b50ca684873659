"""From times to figures: gaps between tokens, percentiles, the stall around a swap. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deploy.bench.stream import Answer


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile (0 to 100), linear between neighbours; NaN-free: 0 for no values."""
    return float(np.percentile(values, q)) if len(values) else 0.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the greatest."""
    return {
        "p50": percentile(values, 50),
        "p99": percentile(values, 99),
        "max": max(values, default=0.0),
    }


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much a server's metrics grew between two looks."""

    before: Mapping[str, float]
    after: Mapping[str, float]

    def of(self, name: str) -> float:
        """Of one series; 0 for one that there is not."""
        return self.after.get(name, 0.0) - self.before.get(name, 0.0)

    def mean_ms(self, name: str) -> float:
        """The mean of what a histogram of seconds took in meanwhile, in ms; 0 for nothing."""
        return 1e3 * self.of(f"{name}_sum") / max(1.0, self.of(f"{name}_count"))

    def loads(self) -> int:
        """Adapters loaded into the engine."""
        return int(self.of('attune_adapter_loads_total{outcome="loaded"}'))


def gaps_ms(answers: Iterable[Answer]) -> list[float]:
    """Milliseconds between neighbouring arrivals of tokens within each answer."""
    return [1e3 * (b - a) for answer in answers for a, b in pairwise(answer.arrivals_s)]


def first_tokens_ms(answers: Iterable[Answer]) -> list[float]:
    """Milliseconds from each request to its first token; answers without one are left out."""
    return [1e3 * (a.arrivals_s[0] - a.began_s) for a in answers if a.arrivals_s]


def longest_gaps_ms(
    answers: Iterable[Answer], windows_s: Sequence[tuple[float, float]]
) -> list[float]:
    """For each window, the longest gap between tokens, in any answer, that touches it."""
    pairs = [pair for answer in answers for pair in pairwise(answer.arrivals_s)]
    spans = np.array(pairs).reshape(-1, 2)
    longest = []
    for begin, end in windows_s:
        touching = spans[(spans[:, 1] >= begin) & (spans[:, 0] <= end)]
        if len(touching):
            longest.append(float(1e3 * (touching[:, 1] - touching[:, 0]).max()))
    return longest


def tokens_per_s(answers: Iterable[Answer], elapsed_s: float) -> float:
    """Tokens received per second of wall time."""
    return sum(len(answer.tokens) for answer in answers) / elapsed_s
