"""What is to be exported, and where to; what is known of an export beyond what all work shares.

Must not know how it is done; loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from core.work.types import Spec, Work
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


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an export: `path` in the export's folder, and the blob that holds it."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ExportFacts:
    """What is exported, by its public name, and what came of it; manifests are JSON here.

    The piece's adapter and `version` are both set or, for the base model alone, both None.
    """

    model: str
    version: int | None
    layout: Layout
    precision: Precision
    manifest: Mapping[str, Any] | None = None
    adapter_manifest: Mapping[str, Any] | None = None
    files: tuple[ExportFile, ...] = ()


Exported = Work[ExportFacts]
"""One export."""

EXPORT = Spec(
    name="export",
    noun="export",
    prefix="exp",
    active=("queued", "building", "verifying"),
    ended={"ready": "is ready", "failed": "is failed", "cancelled": "is cancelled"},
    facts=ExportFacts,
    hint=" See GET /v1/exports.",
)
