"""Which hyperparameters and gate limits a run uses: the operator's, else by the model's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.settings import Settings
from trainer.types import GateLimits, Hyperparameters

SMALL_MODEL_PARAMETERS = 100_000_000

# Tuned and measured on the shipped model; tiny models need far larger steps than large ones.
_SMALL = Hyperparameters()
# LoRA's usual starting point for models people deploy. Not measured here: watch the gate's KL.
_LARGE = Hyperparameters(learning_rate=2e-5, beta=0.1, steps=60)


def hyperparameters(settings: Settings, parameters: int) -> Hyperparameters:
    """For a base model of `parameters` weights; settings that are given win."""
    chosen = _SMALL if parameters < SMALL_MODEL_PARAMETERS else _LARGE
    given: dict[str, Any] = {
        "rank": min(settings.train_rank, settings.max_lora_rank),
        "alpha": 2 * min(settings.train_rank, settings.max_lora_rank),
        "learning_rate": settings.train_learning_rate,
        "beta": settings.train_beta,
        "steps": settings.train_steps,
        "batch_size": settings.train_batch_size,
        "max_length": settings.train_max_length,
    }
    return replace(chosen, **{name: value for name, value in given.items() if value is not None})


def gate_limits(settings: Settings) -> GateLimits:
    """The gate's limits with the operator's KL cap."""
    return GateLimits(kl_cap=settings.gate_kl_cap)
