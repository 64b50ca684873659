"""The export as a kind of work: how one is ordered, shown, downloaded and carried out.

Importing it loads neither torch nor onnx.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, computed_field

from adapters.artifacts.store import ArtifactStore
from adapters.directory import Directory
from adapters.registry import Registry
from adapters.routing import AUTO, BASE, route
from adapters.types import Route
from core.bodies import Body, Resource, Time, says
from core.errors import Conflict, NotFound
from core.ids import AdapterId, Digest, TenantId, parse_digest
from core.work.kind import Durable, Kind, Listing, Place
from deploy.edge.manifest import Layout, Precision
from deploy.export.given_out import digests_given
from deploy.export.job import ExportSteps
from deploy.export.process import CHILD
from deploy.export.request import EXPORT, Exported, ExportFacts, ExportFile

_Layout = Annotated[Layout, says("layout is one of merged, base+adapters.")]
_Precision = Annotated[Precision, says("precision is one of fp32, int8, int4.")]
_State = Annotated[
    Literal["queued", "building", "verifying", "ready", "failed", "cancelled"],
    says("state is one of queued, building, verifying, ready, failed, cancelled."),
]


class ExportOrder(Body):
    """Ask for a model to take away: a name means its live version."""

    model: Annotated[
        str,
        Field(min_length=1),
        says("Say what to export: an adapter, a version (NAME@N) or 'base'."),
    ]
    layout: _Layout = "merged"
    precision: _Precision = "int8"


class ExportListing(Listing):
    """Which exports to list."""

    model: str | None = Field(None, description="A version, or an adapter: all its versions.")
    state: _State | None = None
    layout: _Layout | None = None
    precision: _Precision | None = None


class ExportView(Resource):
    """An export: what is exported, how far it is, its files."""

    object: Literal["export"] = "export"
    state: str
    progress: float
    message: str
    model: str
    version: int | None
    layout: Layout
    precision: Precision
    created_at: Time = Field(validation_alias="created_at_s")
    finished_at: Time = Field(validation_alias="finished_at_s")
    error: str | None
    manifest: dict[str, Any] | None
    adapter_manifest: dict[str, Any] | None
    files: tuple[ExportFile, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def adapter(self) -> str | None:
        """The adapter's name; null for the base model alone."""
        return None if self.version is None else self.model.rpartition("@")[0]


class Export(Kind[ExportFacts, ExportOrder]):
    """Exports for devices: what is under way already is not begun a second time."""

    spec = EXPORT
    order = ExportOrder
    listing = ExportListing
    view = ExportView
    readers = ("train", "edge")  # whoever trains, and devices
    has_files = True
    step_prefix = "export."
    builder: ClassVar[Sequence[str]] = CHILD
    """The command that builds."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        settings = place.settings
        self._registry = Registry(place.database)
        self._artifacts = ArtifactStore(
            settings.resolved_artifacts_url(), cache=settings.home / "cache"
        )

    @cached_property
    def steps(self) -> ExportSteps:
        """What an export does, step by step."""
        return ExportSteps(self.place, self.builder, self.folder)

    def open(self, tenant_id: TenantId, order: ExportOrder) -> Exported:
        """Queue an export, or yield the finished one of the same if its files are all there.

        Raises NotFound for what the tenant does not have, Conflict for an adapter without a live
        version.
        """
        chosen = self._route(tenant_id, order.model)
        if chosen.adapter is not None and chosen.version is None:
            name = order.model[:80]
            raise Conflict(
                f"'{name}' has no live version, so there is nothing to export. Name a version "
                f"('{name}@N') or '{self.place.served_name}'.",
                param="model",
            )
        adapter_id = chosen.adapter.id if chosen.adapter else None
        # Whatever the base is served as: a device knows it by one name alone.
        facts = ExportFacts(
            model=chosen.public_name if chosen.adapter else BASE,
            version=chosen.version.number if chosen.version else None,
            layout=order.layout,
            precision=order.precision,
        )
        key = request_key(tenant_id, adapter_id, facts, self.place.base)
        done = self.ledger.list(tenant_id, {"request_key": key, "state": "ready"}, limit=1).items
        if done and self._is_whole(done[0]):
            return done[0]
        waiting = "Waiting for the trainer."
        return self.ledger.open(tenant_id, key, facts, adapter_id=adapter_id, message=waiting)[0]

    def where(self, tenant_id: TenantId, asked: Mapping[str, Any]) -> Mapping[str, str | None]:
        """An adapter without a version stands for all of its versions."""
        with suppress(NotFound):  # the base model, a version, or nothing there is
            adapter = self._registry.get(tenant_id, asked["model"] or "")
            return {**asked, "model": None, "adapter_id": adapter.id}
        return asked

    def file(self, work: Exported, path: str) -> tuple[Path, Digest]:
        """One file. Conflict until the export is ready, NotFound for a path not among its files."""
        if work.state != "ready":
            raise Conflict(f"Export {work.id} is {work.state}: it has no files to download.")
        for file in work.facts.files:
            if file.path == path:
                # Only the record's digest becomes a path, never the URL.
                digest = parse_digest(file.sha256)
                return self._artifacts.file(digest), digest
        return super().file(work, path)

    def given_out(self, tenant_id: TenantId, model: str) -> frozenset[str]:
        """The digests under which the tenant's finished exports hold a model."""
        return digests_given(self.ledger, tenant_id, model)

    def workflow(self, durable: Durable) -> Callable[[str], object]:
        """First the base model, where it is shared and not exported yet; then what was asked."""
        base, build = durable(self.steps.base), durable(self.steps.build)

        def export(export_id: str) -> object:
            base(export_id)
            return build(export_id)

        return export

    def _route(self, tenant_id: TenantId, model: str) -> Route:
        served_name = self.place.served_name
        if model == AUTO:
            raise NotFound(
                f"'{AUTO}' is no model of its own: name an adapter, a version (NAME@N) or "
                f"'{served_name}'.",
                param="model",
                code="model_not_found",
            )
        directory = Directory()
        with suppress(NotFound):  # `route` says so, unless it is the base model
            adapter = self._registry.get(tenant_id, model.partition("@")[0])
            versions = {version.number: version for version in self._registry.versions(adapter.id)}
            directory = Directory(
                by_name={(tenant_id, adapter.name): adapter}, versions={adapter.id: versions}
            )
        # No draw lies in the exploration share: a name means its live version.
        return route(directory, tenant_id, model, served_name=served_name, draw=1.0)

    def _is_whole(self, export: Exported) -> bool:
        return all(
            self._artifacts.has_file(Digest(file.sha256), file.size_bytes)
            for file in export.facts.files
        )


def request_key(
    tenant_id: TenantId, adapter_id: AdapterId | None, facts: ExportFacts, base: str
) -> str:
    """A hash of what is exported, of which base model: two that are alike have the same files."""
    what = (adapter_id, facts.version, facts.layout, facts.precision, base)
    return hashlib.sha256(json.dumps([tenant_id, facts.model, *what]).encode()).hexdigest()
