"""What to train for a snapshot: which method, from where. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.types import Learning
from core.errors import Invalid
from feedback.types import Snapshot
from trainer.methods import METHODS
from trainer.types import Start


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
