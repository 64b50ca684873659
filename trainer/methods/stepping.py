"""The steps of a training: reported one by one, cancelled between two, ended by a broken loss.

Must not know: what is trained, what makes a training good.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from core.errors import Conflict, Invalid
from trainer.methods.evidence import Look
from trainer.types import OnProgress, Progress


class StepWatch(TrainerCallback):
    """Reports every step, and stops training when asked to or when the loss is no number."""

    def __init__(self, steps: int, on_progress: OnProgress, stop: Callable[[], bool]) -> None:
        self.steps, self.step, self.loss = steps, 0, math.nan
        self._on_progress, self._stop, self._cancelled = on_progress, stop, False
        self._noted: dict[str, float] = {}

    def note(self, look: Look) -> None:
        """Report what was seen after a step beside the step's own figures, which come next."""
        self._noted = {"kl_to_base": look.kl}
        if look.margin is not None:
            self._noted["holdout_margin"] = look.margin

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step, and ask whether to stop."""
        self.step = state.global_step
        self._cancelled = self._cancelled or self._stop()
        control.should_training_stop = control.should_training_stop or self._cancelled

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Report the step's figures."""
        if not logs or "loss" not in logs:
            return
        figures = {name: float(value) for name, value in logs.items()} | self._noted
        self._noted = {}
        self.loss = figures["loss"]
        if not math.isfinite(figures["loss"] + figures.get("grad_norm", 0.0)):
            self.loss = math.nan
            control.should_training_stop = True
        self._on_progress(Progress(state.global_step, self.steps, figures))

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._cancelled:
            raise Conflict("The run was cancelled.", code="cancelled")
        if not math.isfinite(self.loss):
            raise Invalid(
                f"Training diverged at step {self.step}: lower the learning rate.",
                param="learning_rate",
            )
