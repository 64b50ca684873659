"""What to train for a snapshot: which method, from where, with which hyperparameters. Pure.

The operator's hyperparameters and gate limits win; else they follow the model's size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from adapters.types import Learning, Version
from core.errors import Invalid
from core.settings import Settings
from feedback.types import Snapshot
from trainer.methods import METHODS
from trainer.types import GateLimits, Hyperparameters, Start

SMALL_MODEL_PARAMETERS = 100_000_000

# Tuned and measured on the shipped model; tiny models need far larger steps than large ones.
_SMALL = Hyperparameters()
# LoRA's usual starting point for models people deploy. Not measured here: watch the gate's KL.
_LARGE = Hyperparameters(learning_rate=2e-5, beta=0.1, steps=60)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One adapter to train and judge; `method` is the name of one."""

    method: str
    start: Start

    @property
    def name(self) -> str:
        """Its folder and its name in the log."""
        return f"{self.method}-{self.start}"


def method_for(snapshot: Snapshot, learning: Learning) -> str:
    """The method the adapter asks for, else the first one that applies."""
    if learning.method == "auto":
        return next(name for name, one in METHODS.items() if one.applies(snapshot, learning))
    if learning.method not in METHODS:
        raise Invalid(
            f"This trainer knows no method {learning.method!r}: set learning.method to auto, "
            f"{', '.join(METHODS)}.",
            param="learning.method",
        )
    return learning.method


def candidates(snapshot: Snapshot, learning: Learning, *, has_live: bool) -> list[Candidate]:
    """Fresh from the base always; continued from the live version too where there is one.

    Continuing keeps what is not contradicted; a fresh start is what follows a change of mind.
    The gate chooses.
    """
    method = method_for(snapshot, learning)
    starts: list[Start] = ["fresh", "continued"] if has_live else ["fresh"]
    return [Candidate(method, start) for start in starts]


def can_continue(live: Version | None) -> bool:
    """Whether there is a live version that can be trained further.

    TRL counts log-probabilities with the head's own weight: an update of the head would be passed
    over. Source: trl, DPOTrainer, "Applying a PEFT adapter to `lm_head` is not supported".
    """
    return live is not None and "lm_head" not in live.target_modules


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
    """The gate's limits with those the operator sets."""
    return GateLimits(
        kl_cap=settings.gate_kl_cap,
        kl_token_cap=settings.gate_kl_token_cap,
        perplexity_rise=settings.gate_perplexity_rise,
    )
