"""The registry of kinds of durable work: one line each.

The server makes their routes, the trainer carries them out. Loads neither torch nor onnx.
"""

from __future__ import annotations

from typing import Any

from core.work.kind import Kind
from deploy.export.kind import Export
from trainer.runs.kind import TrainingRun

KINDS: tuple[type[Kind[Any, Any]], ...] = (
    TrainingRun,
    Export,
)
