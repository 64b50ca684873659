"""How many judgements prove an effect: pure arithmetic on a margin and its interval."""

from __future__ import annotations

import math

from trainer.types import Interval

_MOST = 1_000_000
"""Beyond, the effect is too small for the figure to mean anything."""


def more_judgements(margin: Interval, judged: int, few_held_out: int) -> int | None:
    """About how many judgements must be added until the gate can prove a margin of this size.

    The lower half of an interval on n items, h = mean - low, shrinks as 1/sqrt(n): it lies over 0
    once n (h / mean)^2 items are held out, and the gate calls that proof from `few_held_out` on.
    Judgements follow in proportion: `judged` of them, those of the run's snapshot, gave n. None
    for a margin that points the other way or hardly anywhere: more of the same would prove
    nothing.

    It supposes that later judgements spread alike, are as balanced and as much held out, and that
    a run on more of them finds the same effect; it is likely to find a larger one.
    """
    if margin.n == 0 or judged == 0 or margin.mean <= 0:
        return None
    shrink = max(0.0, (margin.mean - margin.low) / margin.mean)
    wanted = max(float(few_held_out), margin.n * shrink**2)
    more = math.ceil(judged * (wanted / margin.n - 1) - 1e-9)
    return max(0, more) if more <= _MOST else None
