"""Exports a model or one adapter of it: build, verify against the source, then appear.

Owns what is refused beforehand and that a folder appears whole or not at all. Must not know HTTP,
runs or stores. Importing it loads nothing heavy; torch, onnx and onnxruntime-genai are loaded by
the steps when they run.

All functions call `progress(message, share)` between and within their steps with a share of 0 to
1, though not while the graph is built; what it raises ends the export, is passed on, and nothing
remains. So does every error here: Invalid (the model or adapter cannot be exported, or is not
equal to its source), Conflict (the folder is taken, the base export is another model's),
Unavailable (disk full, packages missing).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from adapters.artifacts.digest import base_digest
from adapters.validate import BaseModel, read_base
from core.errors import Conflict, Invalid
from core.files import appearing, disk_trouble
from deploy.edge.manifest import Layout, Manifest, adapter_folder, check_files, read_manifest
from deploy.export.builder import RECIPES, require_packages
from deploy.export.request import ExportJob, Order, Progress

_AGAIN = "Then export again."


def carry_out(order: Order, progress: Progress) -> Manifest:
    """Export what is ordered, a model or an adapter for a finished base."""
    if order.base is None:
        return export_model(order.job, order.out, progress)
    return export_adapter(order.job, order.base, order.out, progress)


def export_model(job: ExportJob, out: Path, progress: Progress) -> Manifest:
    """Export into the folder `out`, which appears complete and verified, or not at all.

    `merged` folds the adapter in. `base+adapters` exports the base with exchangeable adapters
    and, if the job names an adapter, its file below it. Returns the manifest of the model.
    """
    base = _check(job)
    from deploy.export import steps

    with disk_trouble(str(out), _AGAIN), appearing(out) as folder:
        if job.layout == "merged":
            return steps.merged(job, folder, progress)
        share = 0.6 if job.adapter_folder else 1.0
        manifest = steps.base(job, base, folder, steps.part(progress, 0.0, share))
        if job.adapter_folder is not None:
            target = adapter_folder(folder, job.name)
            target.mkdir(parents=True)
            rest = steps.part(progress, share, 1.0)
            steps.adapter(job, base, folder, manifest, target, rest)
        return manifest


def export_adapter(job: ExportJob, base: Path, out: Path, progress: Progress) -> Manifest:
    """Write the job's adapter for the finished base export in `base` into the folder `out`.

    Besides the errors above: Conflict when a file of the base export is not what its manifest
    says, or it was exported from another base model or at another precision.
    """
    source_model = _check(job)
    if job.adapter_folder is None or not job.adapter:
        raise Invalid("An adapter export needs an adapter.", param="adapter")
    manifest = read_manifest(base)
    if manifest.kind != "base":
        raise Conflict(
            f"{base} is a merged export, which takes no adapters; export the base with "
            "--layout base+adapters.",
            param="layout",
        )
    if manifest.precision != job.precision:
        raise Conflict(
            f"{base} has precision {manifest.precision}, not {job.precision}.", param="precision"
        )
    if manifest.model.base_digest != base_digest(job.model):
        raise Conflict(
            f"{base} was exported from another base model than the one in {job.model}; export the "
            "base again.",
            code="other_base",
        )
    check_files(base, manifest)
    from deploy.export import steps

    with disk_trouble(str(out), _AGAIN), appearing(out) as folder:
        return steps.adapter(job, source_model, base, manifest, folder, progress)


def _check(job: ExportJob) -> BaseModel:
    require_packages()
    if job.precision not in RECIPES:
        raise Invalid(f"precision must be one of {', '.join(RECIPES)}.", param="precision")
    if job.layout not in get_args(Layout):
        raise Invalid(f"layout must be one of {', '.join(get_args(Layout))}.", param="layout")
    named = [value is not None for value in (job.adapter_folder, job.adapter, job.version)]
    if any(named) and not all(named):
        raise Invalid("An adapter needs its folder, its name and its version.", param="adapter")
    _require_model(job.model)
    base = read_base(str(job.model))
    if job.adapter_folder is not None:
        from deploy.export.adapter_file import check_adapter

        check_adapter(job.adapter_folder, base)
    return base


def _require_model(model: Path) -> None:
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        config["architectures"][0]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Invalid(
            f"{model} is not a model folder: its config.json names no architecture.", param="model"
        ) from error
