"""What is known of an export beyond what all work shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.work.types import Spec, Work
from deploy.edge.manifest import Layout, Precision


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
