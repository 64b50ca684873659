"""What a run is trained by: an adapter's recipe with every figure filled in. Pure.

The recipe wins, then the operator's settings; the rest follows the model and what there is to learn
from. docs/training.md says what was measured.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

from adapters.recipe import Recipe
from core.settings import Settings
from feedback.types import Snapshot
from trainer.methods import METHODS
from trainer.types import Hyperparameters

UNSET = Recipe()
_UNTOLD = Hyperparameters()

_RATE, _PARAMETERS, _POWER = 1e-3, 3.6e6, -0.4
BETA = 1.0
STEPS, MOST_STEPS = 40, 500
HOLDOUT = 0.15
PATIENCE = 3


def as_used(
    settings: Settings, parameters: int, recipe: Recipe = UNSET, *, completions: int = 0
) -> Recipe:
    """The recipe with every figure filled in, for a base model of `parameters` weights.

    The operator's settings stand in for what the recipe leaves open, then what suits the model and
    the number of `completions` to learn from. Nothing exceeds the server's limits.
    """
    rank = min(recipe.rank or settings.train_rank, settings.max_lora_rank)
    size = recipe.batch_size or settings.train_batch_size
    one_pass = math.ceil(completions / size)
    chosen: dict[str, Any] = {
        "learning_rate": settings.train_learning_rate or learning_rate_for(parameters),
        "beta": settings.train_beta or BETA,
        "sft_weight": _UNTOLD.sft_weight,
        "max_steps": settings.train_steps or min(MOST_STEPS, max(STEPS, one_pass)),
        "batch_size": size,
        "alpha": 2 * rank,
        "target_modules": _UNTOLD.target_modules,
        "kl_budget": settings.gate_kl_cap,
        "kl_token_budget": settings.gate_kl_token_cap,
        "holdout": HOLDOUT,
        "patience": PATIENCE,
        "load_in_4bit": settings.trainer_4bit,
    }
    told = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    longest = min(recipe.max_length or settings.train_max_length, settings.train_max_length)
    given = {name: value for name, value in told.items() if value is not None}
    return Recipe(**chosen | given | {"rank": rank, "max_length": longest})


def learning_rate_for(parameters: int) -> float:
    """The peak learning rate for a base model of `parameters` weights, to two digits.

    A power law through what was best at 3.6 million and at 135 million (docs/training.md); what it
    says of larger ones is not measured, and a rate too high ends at the KL budget.
    """
    return float(f"{_RATE * (parameters / _PARAMETERS) ** _POWER:.1e}")


def told(used: Recipe, learning_rate: float | None = None) -> Hyperparameters:
    """A filled-in recipe as a method is told it, at its first learning rate or the one given."""
    figures = {field.name: getattr(used, field.name) for field in fields(used)}
    steps = figures.pop("max_steps")
    figures["learning_rate"] = learning_rate or used.learning_rates[0]
    return replace(_UNTOLD, steps=steps, **figures)


def completions(snapshot: Snapshot, method: str) -> int:
    """How many answers of its training side the method learns from."""
    chosen = METHODS[method]
    return sum(len(chosen.completions(example)) for example in chosen.examples(snapshot))
