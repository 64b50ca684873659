"""Bootstrap intervals: how sure a difference on held-out items is.

Owns the statistics of the evaluation, as pure functions of numbers. Must not know: models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.types import Interval

Floats = NDArray[np.float64]

RESAMPLES = 2_000
_DRAWN_AT_ONCE = 4_000_000


def mean_interval(values: Sequence[float], seed: int) -> Interval:
    """The mean of `values` with its 95 % interval; all zero for no values."""
    if not values:
        return Interval(0.0, 0.0, 0.0, 0)
    array = np.asarray(values, dtype=np.float64)
    return _interval(
        float(array.mean()), _resampled(array, np.random.default_rng(seed)), len(array)
    )


def preference_margin(
    pairs: Sequence[float], ups: Sequence[float], downs: Sequence[float], seed: int
) -> Interval:
    """How much more a candidate moved towards liked answers than towards disliked ones, nats.

    `ups` and `downs` are log p(candidate) - log p(reference) of single answers, `pairs` the
    chosen answer's minus the rejected one's. Labels have no partner, so their margin is the
    difference of the two means: a candidate that raises every answer alike scores nothing. Both
    estimate the same quantity and are averaged, weighted by their variance if all shifts spread
    alike: `u` ups and `d` downs are worth 2ud / (u + d) pairs. Resampling is stratified: pairs,
    ups and downs each keep their number. Labels of one kind only say nothing.

    `n` is the worth in items: one for a pair, 4ud / (u + d) for labels, which is u + d when
    both are equally many.
    """
    rng = np.random.default_rng(seed)
    estimates: list[tuple[float, float, Floats]] = []  # worth in pairs, mean, resampled means
    items = 0.0
    if pairs:
        array = np.asarray(pairs, dtype=np.float64)
        estimates.append((float(len(array)), float(array.mean()), _resampled(array, rng)))
        items += len(array)
    if ups and downs:
        high, low = np.asarray(ups, dtype=np.float64), np.asarray(downs, dtype=np.float64)
        worth = 2 * len(high) * len(low) / (len(high) + len(low))
        means = _resampled(high, rng) - _resampled(low, rng)
        estimates.append((worth, float(high.mean() - low.mean()), means))
        items += 2 * worth
    if not estimates:
        return Interval(0.0, 0.0, 0.0, 0)
    total = sum(worth for worth, _, _ in estimates)
    mean = sum(worth * value for worth, value, _ in estimates) / total
    resampled = sum((worth / total) * means for worth, _, means in estimates)
    return _interval(mean, np.asarray(resampled), int(items))


def _resampled(values: Floats, rng: np.random.Generator) -> Floats:
    """Means of `RESAMPLES` samples of the size of `values`, drawn with replacement."""
    rows = max(1, _DRAWN_AT_ONCE // len(values))
    parts = [
        values[rng.integers(0, len(values), (min(rows, RESAMPLES - at), len(values)))].mean(axis=1)
        for at in range(0, RESAMPLES, rows)
    ]
    return np.concatenate(parts)


def _interval(mean: float, resampled: Floats, n: int) -> Interval:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(mean, float(low), float(high), n)
