"""How often the implicit reward prefers what people preferred, and how sure that is. Pure.

The implicit reward of an answer is its log-probability less the base's (times beta, which changes
no order). Pairs of one prompt are not independent, so intervals draw whole prompts anew.

Source: Rafailov et al. 2023, equation 5; TRL's `rewards/accuracies`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Scored:
    """One held-out pair: of both answers the shift of log-probability in nats, and the tokens."""

    prompt: str
    chosen_shift: float
    rejected_shift: float
    chosen_tokens: int
    rejected_tokens: int

    @property
    def is_right(self) -> bool:
        """The preferred answer has risen more; no difference is wrong, as TRL counts it."""
        return self.chosen_shift > self.rejected_shift

    @property
    def is_right_per_token(self) -> bool:
        """The same by token, so that length alone decides nothing."""
        return self.chosen_shift / self.chosen_tokens > self.rejected_shift / self.rejected_tokens


def interval(prompts: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """The mean of one value a pair with its 95 % interval over prompts."""
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    sums, counts = np.zeros(len(places)), np.zeros(len(places))
    for prompt, value in zip(prompts, values, strict=True):
        sums[places[prompt]] += value
        counts[places[prompt]] += 1
    drawn = np.random.default_rng(0).integers(0, len(places), (_RESAMPLES, len(places)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": float(sums.sum() / counts.sum()), "low": float(low), "high": float(high)}


def accuracies(scored: Sequence[Scored]) -> dict[str, dict[str, float]]:
    """Both accuracies, and the mean margin in nats, each with its interval."""
    prompts = [one.prompt for one in scored]
    return {
        "accuracy": interval(prompts, [float(one.is_right) for one in scored]),
        "accuracy_per_token": interval(prompts, [float(one.is_right_per_token) for one in scored]),
        "margin": interval(prompts, [one.chosen_shift - one.rejected_shift for one in scored]),
    }


def differences(ours: Sequence[Scored], other: Sequence[Scored]) -> dict[str, dict[str, float]]:
    """Ours less the other's accuracies, on the same pairs in the same order."""
    prompts = [one.prompt for one in ours]
    both = list(zip(ours, other, strict=True))
    return {
        "accuracy": interval(prompts, [float(a.is_right) - b.is_right for a, b in both]),
        "accuracy_per_token": interval(
            prompts, [float(a.is_right_per_token) - b.is_right_per_token for a, b in both]
        ),
    }
