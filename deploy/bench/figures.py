"""From times to figures: gaps between tokens, percentiles, the stall around a swap. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from deploy.bench.stream import Answer


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile (0 to 100), linear between neighbours; NaN-free: 0 for no values."""
    return float(np.percentile(values, q)) if len(values) else 0.0


def gaps_ms(answers: Iterable[Answer]) -> list[float]:
    """Milliseconds between neighbouring arrivals of tokens within each answer."""
    return [
        1e3 * (later - earlier)
        for answer in answers
        for earlier, later in zip(answer.arrivals_s, answer.arrivals_s[1:], strict=False)
    ]


def first_tokens_ms(answers: Iterable[Answer]) -> list[float]:
    """Milliseconds from each request to its first token; answers without one are left out."""
    return [1e3 * (a.arrivals_s[0] - a.began_s) for a in answers if a.arrivals_s]


def longest_gaps_ms(
    answers: Iterable[Answer], windows_s: Sequence[tuple[float, float]]
) -> list[float]:
    """For each window, the longest gap between tokens, in any answer, that touches it."""
    spans = np.array(
        [
            pair
            for answer in answers
            for pair in zip(answer.arrivals_s, answer.arrivals_s[1:], strict=False)
        ]
    ).reshape(-1, 2)
    longest = []
    for begin, end in windows_s:
        touching = spans[(spans[:, 1] >= begin) & (spans[:, 0] <= end)]
        if len(touching):
            longest.append(float(1e3 * (touching[:, 1] - touching[:, 0]).max()))
    return longest


def tokens_per_s(answers: Iterable[Answer], elapsed_s: float) -> float:
    """Tokens received per second of wall time."""
    return sum(len(answer.tokens) for answer in answers) / elapsed_s
