"""What to train for a snapshot: which method, from where, at which learning rates. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

from adapters.types import Learning, Version
from core.errors import Invalid
from core.settings import Settings
from feedback.types import Snapshot
from trainer.methods import METHODS
from trainer.runs.recipes import as_used, told
from trainer.types import GateLimits, Hyperparameters, Start


@dataclass(frozen=True, slots=True)
class Candidate:
    """One adapter to train and judge; `method` is the name of one."""

    method: str
    start: Start
    learning_rate: float | None = None
    """Where there are several; None: the one there is."""

    @property
    def name(self) -> str:
        """Its folder and its name in the log."""
        rate = "" if self.learning_rate is None else f"-lr{self.learning_rate}"
        return f"{self.method}-{self.start}{rate}"

    def __setstate__(self, state: Sequence[Any]) -> None:
        # DBOS keeps pickles; those of the release before have two values. This may go once no run
        # of that release can be under way.
        for place, value in zip_longest(fields(self), state):
            object.__setattr__(self, place.name, value)


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

    Continuing keeps what is not contradicted; a fresh start is what follows a change of mind. Each
    at every learning rate of the recipe. The gate chooses.
    """
    method = method_for(snapshot, learning)
    starts: list[Start] = ["fresh", "continued"] if has_live else ["fresh"]
    rates = learning.recipe.learning_rates
    several: Sequence[float | None] = rates if len(rates) > 1 else [None]
    return [Candidate(method, start, rate) for start in starts for rate in several]


def can_continue(live: Version | None) -> bool:
    """Whether there is a live version that can be trained further.

    TRL counts log-probabilities with the head's own weight: an update of the head would be passed
    over. Source: trl, DPOTrainer, "Applying a PEFT adapter to `lm_head` is not supported".
    """
    return live is not None and "lm_head" not in live.target_modules


def hyperparameters(settings: Settings, parameters: int) -> Hyperparameters:
    """What a method is told of a base model of `parameters` weights without any recipe."""
    return told(as_used(settings, parameters))


def gate_limits(settings: Settings) -> GateLimits:
    """The gate's limits with those the operator sets."""
    return GateLimits(
        kl_cap=settings.gate_kl_cap,
        kl_token_cap=settings.gate_kl_token_cap,
        perplexity_rise=settings.gate_perplexity_rise,
    )
