"""What a training takes and how it went, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.types import TrainResult

if TYPE_CHECKING:
    from trainer.methods.fitting import Fit


def takes(name: str, fit: Fit) -> str:
    """How long it is going to take and how much memory, before it begins."""
    told = f"{fit.seconds / 60:.0f} min" if fit.seconds >= 90 else f"{fit.seconds:.0f} s"
    return (
        f"{name} takes about {told} on this machine and {fit.memory_bytes / 2**30:.1f} GiB "
        f"beside the base model, {fit.tokens_at_once} tokens at a time."
    )


def trained(name: str, result: TrainResult) -> str:
    """How long it took, why it stopped, whose weights were kept."""
    said = (
        f"Trained {name}: {result.steps} steps in {result.train_s:.1f} s, final loss "
        f"{result.final_loss:.4f}."
    )
    if result.kept_step is None:
        return said
    if result.stopped:
        said += f" Stopped after step {result.steps}: {result.stopped}."
    by = (
        f"the best margin on what was set apart of {result.examples + result.watched} examples"
        if result.watched
        else "the last within the KL budget, for there are too few answers to set any apart"
    )
    return f"{said} Kept step {result.kept_step}, {by}."
