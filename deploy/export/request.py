"""What is to be exported, and where to. Must not know how it is done; loads nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from deploy.edge.manifest import Layout, Precision
from deploy.export.prompts import Conversation

Progress = Callable[[str, float], None]
"""Called with a stage and a share of 0 to 1; what it raises ends the export."""


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """A version to export: where it lies, its adapter's name, its number, its artifact's digest."""

    folder: Path
    name: str
    number: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What to export. `model` is the base model's folder, `model_name` its served name.

    With fewer than 50 `prompts` of the tenant's own, shipped ones are added.
    """

    model: Path
    model_name: str
    layout: Layout
    precision: Precision
    adapter: AdapterVersion | None = None
    prompts: tuple[Conversation, ...] = ()

    @property
    def name(self) -> str:
        """`support@3`, or the base's served name."""
        return f"{self.adapter.name}@{self.adapter.number}" if self.adapter else self.model_name


@dataclass(frozen=True, slots=True)
class Order:
    """A job for the folder `out`: a model, or with `base`, a finished export, an adapter for it."""

    job: ExportJob
    out: Path
    base: Path | None = None


ORDERS = TypeAdapter(Order)
"""Orders as JSON and back, for the process that carries one out."""
