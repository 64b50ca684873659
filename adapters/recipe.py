"""How an adapter is trained: the figures of a run that its owner may set.

Owns the noun alone. Bounds and meanings are told at the HTTP edge, what an unset figure becomes is
the trainer's (`trainer.runs.plan`).
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_RATES = 4
"""Learning rates one run may try; each is another training."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Figures of a training. None leaves one to the trainer; a run keeps them all filled in.

    `kl_budget` is in nats per answer, `kl_token_budget` in nats per token, `max_length` in tokens,
    `holdout` a share of the prompts.
    """

    learning_rate: float | tuple[float, ...] | None = None
    beta: float | None = None
    sft_weight: float | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    max_length: int | None = None
    rank: int | None = None
    alpha: int | None = None
    target_modules: tuple[str, ...] | None = None
    kl_budget: float | None = None
    kl_token_budget: float | None = None
    holdout: float | None = None
    patience: int | None = None
    load_in_4bit: bool | None = None

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """One or several; none where the trainer chooses."""
        rate = self.learning_rate
        return () if rate is None else rate if isinstance(rate, tuple) else (rate,)
