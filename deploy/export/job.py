"""Exports as the trainer carries them out: two durable steps per export.

Owns what is built from which artifacts, where it lies meanwhile, and that only what was verified
is ever recorded. The building itself is `deploy.export.exporter`'s, in a process of its own. Loads
neither torch nor onnx.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.artifacts.digest import base_digest, weights_digest
from adapters.artifacts.store import ArtifactStore
from adapters.bases import file_digests
from adapters.exported_bases import ExportedBases
from adapters.registry import Registry
from adapters.validate import model_folder
from core.errors import Conflict, NotFound, Unavailable
from core.files import disk_trouble
from core.ids import Digest
from core.work.kind import Place
from core.work.ledger import Ledger
from deploy.edge.manifest import ADAPTERS_FOLDER, Manifest, read_manifest, write_manifest
from deploy.export.process import run_order
from deploy.export.prompts import own_prompts
from deploy.export.request import EXPORT, AdapterVersion, Exported, ExportFile, ExportJob, Order
from feedback.interactions import InteractionStore

_TOLD_EVERY_S = 1.0
"""How often progress is written, and so how long a cancel may go unnoticed."""
_STORED = 0.95
"""Progress once everything is built and only copying into the store remains."""


class ExportSteps:
    """The steps of one worker's exports; `builder` is the command that builds."""

    def __init__(self, place: Place, builder: Sequence[str], folder: Callable[[str], Path]) -> None:
        self._settings = settings = place.settings
        self._builder = builder
        self._folder = folder  # where an export is built until it ends
        self._exports = Ledger(place.database, EXPORT)
        self._bases = ExportedBases(place.database)
        self._registry = Registry(place.database)
        self._interactions = InteractionStore(place.database)
        self._artifacts = ArtifactStore(
            settings.resolved_artifacts_url(), cache=settings.home / "cache"
        )
        self._sha256 = file_digests(settings.home).sha256  # a base is read once, not per export

    @disk_trouble("the trainer", "Then export again.")
    def base(self, export_id: str) -> None:
        """Export the base model for layout base+adapters, unless that was done before.

        It is shared by all tenants, so it is verified with shipped prompts alone.
        """
        export = self._start(export_id)
        if export.facts.layout == "merged":
            return
        model = model_folder(self._settings.model)
        digest = base_digest(model, self._sha256)
        if self._known_base(digest, export.facts.precision) is not None:
            return
        out = self._fresh(export_id) / "out"
        share = _STORED if export.adapter_id is None else 0.5
        job = self._job(export, model, None)
        manifest = self._run(export, job, out, None, 0.0, share, ("building",))
        self._keep(out, manifest)
        self._bases.record(digest, export.facts.precision, manifest.to_json())

    @disk_trouble("the trainer", "Then export again.")
    def build(self, export_id: str) -> None:
        """Build and verify what was asked for, store its files, make the export ready."""
        export = self._start(export_id)
        model = model_folder(self._settings.model)
        if export.facts.layout == "merged":
            out = self._fresh(export_id) / "out"
            job = self._job(export, model, self._adapter(export, model))
            manifest = self._run(export, job, out, None, 0.0)
            self._finish(export, manifest, None, self._keep(out, manifest))
            return
        base = self._known_base(base_digest(model, self._sha256), export.facts.precision)
        if base is None:
            raise Unavailable("The exported base model is gone again; ask for the export again.")
        files = _files(base)
        if export.adapter_id is None:
            self._finish(export, base, None, files)
            return
        work = self._fresh(export_id)
        self._lay_out(base, work / "base")
        job = self._job(export, model, self._adapter(export, model))
        manifest = self._run(export, job, work / "out", work / "base", 0.5)
        prefix = f"{ADAPTERS_FOLDER}/{export.facts.model}/"
        files += self._keep(work / "out", manifest, prefix)
        self._finish(export, base, manifest, files)

    def _start(self, export_id: str) -> Exported:
        return self._exports.advance(export_id, "building", progress=0.0, message="Preparing.")

    def _run(
        self,
        export: Exported,
        job: ExportJob,
        out: Path,
        base: Path | None,
        begin: float,
        end: float = _STORED,
        states: tuple[str, ...] = ("building", "verifying"),
    ) -> Manifest:
        told, told_at_s = "", 0.0

        def report(stage: str, share: float) -> None:
            nonlocal told, told_at_s
            if stage == told and time.monotonic() - told_at_s < _TOLD_EVERY_S:
                return
            told, told_at_s = stage, time.monotonic()
            state = states[-1] if stage.startswith("Verif") else states[0]
            done = begin + (end - begin) * min(1.0, max(0.0, share))
            self._exports.advance(export.id, state, progress=done, message=stage)

        threads = max(1, self._settings.trainer_threads)  # beside serving, one is best
        run_order(
            self._builder,
            Order(job, out, base),
            out.parent / "log",
            report,
            environment={"OMP_NUM_THREADS": str(threads)},
        )
        return read_manifest(out)

    def _job(self, export: Exported, model: Path, adapter: AdapterVersion | None) -> ExportJob:
        """What to export; without an adapter, of the base alone."""
        facts = export.facts
        shared = adapter is None and facts.layout == "base+adapters"
        prompts = (
            () if shared else own_prompts(self._interactions, export.tenant_id, export.adapter_id)
        )
        served_name = self._settings.served_name
        return ExportJob(model, served_name, facts.layout, facts.precision, adapter, prompts)

    def _adapter(self, export: Exported, model: Path) -> AdapterVersion | None:
        """The version with its checked folder; None for the base alone."""
        if export.adapter_id is None or export.facts.version is None:
            return None
        version = self._registry.version(export.adapter_id, export.facts.version)
        if version.state == "quarantined":  # since the export was ordered
            raise Conflict(
                f"{export.facts.model} is quarantined, as its adapter's history says: its weights "
                "are absurd. Export another version.",
                code="quarantined",
            )
        if not version.is_for(weights_digest(model, self._sha256)):
            raise Conflict(
                f"{export.facts.model} was made for another base model than this trainer's; export "
                "a version that was made for this one.",
                code="other_base",
            )
        try:
            folder = self._artifacts.check(version.digest)
        except (NotFound, Unavailable) as error:
            raise Unavailable(
                f"The weights of {export.facts.model} cannot be read: {error.message} Then export "
                "again."
            ) from error
        name = export.facts.model.rpartition("@")[0]
        return AdapterVersion(folder, name, version.number, version.digest)

    def _known_base(self, digest: str, precision: str) -> Manifest | None:
        """The exported base, if it was recorded and all of its files are still sound."""
        recorded = self._bases.get(digest, precision)
        if recorded is None:
            return None
        manifest = Manifest.from_json(recorded)
        whole = all(
            self._artifacts.has_file(Digest(entry.sha256), entry.size_bytes)
            for entry in manifest.files.values()
        )
        return manifest if whole else None

    def _keep(self, folder: Path, manifest: Manifest, prefix: str = "") -> list[ExportFile]:
        """The export's files in the artifact store. Unavailable if one is not what was verified."""
        for name, entry in manifest.files.items():
            if self._artifacts.put_file(folder / name) != entry.sha256:
                raise Unavailable(f"{name} has changed since it was verified; export again.")
        return _files(manifest, prefix)

    def _finish(
        self,
        export: Exported,
        manifest: Manifest,
        adapter_manifest: Manifest | None,
        files: Sequence[ExportFile],
    ) -> None:
        # The last way out for a cancel.
        self._exports.advance(export.id, "verifying", progress=_STORED, message="Storing.")
        self._exports.finish(
            export.id,
            "ready",
            progress=1.0,
            message=f"{len(files)} files, ready to download.",
            manifest=manifest.to_json(),
            adapter_manifest=adapter_manifest.to_json() if adapter_manifest else None,
            files=tuple(files),
        )

    def _lay_out(self, base: Manifest, folder: Path) -> None:
        """The exported base as a folder, without copying where the file system allows it."""
        for name, entry in base.files.items():
            source, target = self._artifacts.file(Digest(entry.sha256)), folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)  # what keeps that from working too is raised
        write_manifest(folder, base)

    def _fresh(self, export_id: str) -> Path:
        """An empty folder: what a killed worker left half-done is not built upon."""
        folder = self._folder(export_id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def _files(manifest: Manifest, prefix: str = "") -> list[ExportFile]:
    return [
        ExportFile(prefix + name, entry.sha256, entry.size_bytes)
        for name, entry in manifest.files.items()
    ]
