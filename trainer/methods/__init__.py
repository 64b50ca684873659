"""Training methods: examples and a start in, a PEFT adapter folder out.

Owns which trainer serves which signal. Importing it loads neither torch nor trl; training does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feedback.types import Label, Pair
from trainer.methods.folders import scaled
from trainer.methods.rows import pairs_as_labels
from trainer.types import Hyperparameters, MethodName, OnProgress, Start, TrainResult

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

__all__ = ["pairs_as_labels", "scaled", "train"]


def train(
    model: WarmModel,
    *,
    method: MethodName,
    start: Start,
    examples: Sequence[Label] | Sequence[Pair],
    live_adapter: Path | None,
    replay: Sequence[Label] | Sequence[Pair] = (),
    hyperparameters: Hyperparameters,
    out: Path,
    on_progress: OnProgress,
    stop: Callable[[], bool],
) -> TrainResult:
    """Train one candidate into the folder `out`, which appears complete or not at all.

    `kto` learns from labels, `dpo` from pairs; `replay` holds more of the same kind, learnt
    alongside. The reference is always the base model, so that many rounds cannot drift away
    from it: `fresh` starts there too, `continued` starts from `live_adapter`, whose rank,
    alpha and modules it keeps. The same arguments on the same machine give the same weights.

    Raises Invalid when the examples cannot teach (none left, one kind of label only, diverged),
    Conflict with code "cancelled" once `stop()` is true, which is asked after every step.
    """
    from trainer.methods.loop import run

    return run(
        model,
        method=method,
        start=start,
        examples=[*examples, *replay],
        live_adapter=live_adapter,
        hyperparameters=hyperparameters,
        out=out,
        on_progress=on_progress,
        stop=stop,
    )
