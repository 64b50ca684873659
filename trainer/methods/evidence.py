"""When a training has done enough, and which of its states to keep. Pure.

Owns the rule. Must not know: how a look is taken, what is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """What was measured after one step.

    `kl`: KL(policy || base) of an answer, in nats. `margin`: how much more the liked answers of
    the holdout have gained on the base than the disliked ones, in nats; None without a holdout.
    `tokens`: mean length of the answers that `kl` is of, or of usual ones if those are longer.
    """

    step: int
    kl: float
    margin: float | None = None
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The look to go back to, and why there is nothing to be had further on; None: go on."""

    best: Look
    stop: str | None


def weigh(
    looks: Sequence[Look], kl_budget: float, patience: int, kl_token_budget: float = 0.0
) -> Finding:
    """What `looks`, at least one and in order, say so far.

    The budget is `kl_budget` nats an answer and `kl_token_budget` more for each token. Best is the
    largest margin within the budget, the first of equals; without margins the last look within it,
    because the KL alone tells how far is too far and not how far is enough. With none within it the
    first. A margin that is no number is the worst there is. Two looks in a row over the budget are
    the end of it.
    """
    allowed = [kl_budget + kl_token_budget * look.tokens for look in looks]
    # A KL that is no number is over it, too.
    within = [at for at, look in enumerate(looks) if look.kl <= allowed[at]]
    best = max(within, key=lambda at: _worth(looks, at), default=0)
    last = looks[-1]
    stop = None
    # A large step may overshoot and settle again; one that does not settle has gone too far.
    if len(looks) > 1 and not {len(looks) - 1, len(looks) - 2} & {*within}:
        stop = f"KL {last.kl:.2f} is over its budget of {allowed[-1]:.3g} nats an answer"
    elif last.margin is not None and len(looks) - 1 - best >= patience:
        stop = f"the margin got no better in {patience} looks"
    return Finding(looks[best], stop)


def look_steps(steps: int, looks: int) -> tuple[int, ...]:
    """After which of `steps` steps to look: at most `looks` times, evenly, after the last too."""
    count = min(steps, looks)
    return tuple(math.ceil(steps * (at + 1) / count) for at in range(count))


def _worth(looks: Sequence[Look], at: int) -> tuple[float, int]:
    margin = looks[at].margin
    if margin is None:
        return 0.0, at
    return (-math.inf if math.isnan(margin) else margin), -at
