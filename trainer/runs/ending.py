"""How a training went, in words. Pure."""

from __future__ import annotations

from trainer.types import TrainResult


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
