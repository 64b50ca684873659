"""What is to be exported, and where to. Must not know how it is done; loads nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from deploy.edge.manifest import Layout, Precision
from deploy.export.prompts import Conversation
from deploy.export.thresholds import DEFAULTS, Thresholds

Progress = Callable[[str, float], None]
"""Called with a stage and a share of 0 to 1; what it raises ends the export."""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What to export. `model` is the base model's folder, `model_name` its served name.

    The adapter fields are all None for the base alone. With fewer than 50 `prompts` shipped ones
    are added; `thresholds` None means those of the precision.
    """

    model: Path
    model_name: str
    layout: Layout
    precision: Precision
    adapter_folder: Path | None = None
    adapter: str | None = None
    version: int | None = None
    adapter_digest: str | None = None
    prompts: tuple[Conversation, ...] = ()
    prompt_source: str = "shipped"
    thresholds: Thresholds | None = None

    @property
    def name(self) -> str:
        """`support@3`, or the base's served name."""
        return f"{self.adapter}@{self.version}" if self.adapter else self.model_name

    @property
    def limits(self) -> Thresholds:
        """What the figures are held against."""
        return self.thresholds or DEFAULTS[self.precision]


@dataclass(frozen=True, slots=True)
class Order:
    """A job for the folder `out`: a model, or with `base`, a finished export, an adapter for it."""

    job: ExportJob
    out: Path
    base: Path | None = None


ORDERS = TypeAdapter(Order)
"""Orders as JSON and back, for the process that carries one out."""
