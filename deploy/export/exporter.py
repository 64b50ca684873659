"""Exports a model or one adapter of it: build, measure the source, compare, describe, appear.

Owns what is refused beforehand, the order of the steps, what the manifest says, and that a folder
appears whole or not at all. Building comes before measuring, so that a model the builder does not
know is refused before anything long is done. Must not know HTTP, runs or stores. Loads torch, onnx
and onnxruntime-genai; `require_packages` says beforehand whether they are there.

Both exports call `progress(message, share)` between and within their steps with a share of 0 to
1, though not while the graph is built; what it raises ends the export, is passed on, and nothing
remains. So does every error here: Invalid (the model or adapter cannot be exported, or is not
equal to its source), Conflict (the folder is taken, the base export is another model's),
Unavailable (disk full).
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from adapters.artifacts.digest import base_digest
from adapters.validate import BaseModel, read_base
from core.errors import Conflict, Invalid
from core.files import appearing, disk_trouble
from deploy.edge.manifest import (
    ADAPTER_FILE,
    MODEL_FOLDER,
    FileEntry,
    Manifest,
    ModelEntry,
    Verification,
    check_files,
    digest_of_files,
    entries_of,
    read_manifest,
    write_manifest,
)
from deploy.export.adapter_file import (
    carried_modules,
    check_adapter,
    read_matrices,
    write_onnx_adapter,
    write_template,
)
from deploy.export.builder import RECIPES, build
from deploy.export.graph import lora_nodes, open_slots, read_slots
from deploy.export.prompts import enough_prompts
from deploy.export.reference import fits, measure, save_merged
from deploy.export.request import ExportJob, Progress
from deploy.export.verify import LIMITS, Runtime, compare, require_passed
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters

EXCHANGEABLE: Final = frozenset(Hyperparameters().target_modules)
"""Last names of the modules whose adapters a base export can exchange."""

_AGAIN = "Then export again."
_TOOLS = ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "torch", "transformers", "peft")


def export_model(job: ExportJob, out: Path, progress: Progress) -> Manifest:
    """Export into the folder `out`, which appears complete and verified, or not at all.

    `merged` folds the job's adapter in, if it has one. `base+adapters` exports the base with a
    slot for every exchangeable module, for a job without an adapter; see `export_adapter`.
    """
    _architecture(job.model)
    shapes = read_base(str(job.model))
    if job.adapter is not None:
        check_adapter(job.adapter.folder, shapes)
    merged = job.layout == "merged"
    with disk_trouble(str(out), _AGAIN), appearing(out) as folder:
        recipe = _merged(job, folder, progress) if merged else _base(job, shapes, folder, progress)
        verified = _verify(job, folder, None, _part(progress, 0.4, 1.0))
        files = entries_of(folder)
        return _describe(
            job,
            folder,
            verified,
            files,
            kind="merged" if merged else "base",
            layout=job.layout,
            model_digest=digest_of_files(files),
            recipe=recipe,
        )


def export_adapter(job: ExportJob, base: Path, out: Path, progress: Progress) -> Manifest:
    """Write the job's adapter for the finished base export in `base` into the folder `out`.

    Besides the errors above: Conflict when a file of the base export is not what its manifest
    says, or it was exported from another base model.
    """
    assert job.adapter is not None  # the order of a base alone names no base export
    _architecture(job.model)
    rank = check_adapter(job.adapter.folder, read_base(str(job.model)))
    manifest = read_manifest(base)
    if manifest.model.base_digest != base_digest(job.model):
        raise Conflict(
            f"{base} was exported from another base model than the one in {job.model}; export the "
            "base again.",
            code="other_base",
        )
    check_files(base, manifest)
    with disk_trouble(str(out), _AGAIN), appearing(out) as folder:
        file = folder / ADAPTER_FILE
        slots = read_slots(base / MODEL_FOLDER / "model.onnx")
        write_onnx_adapter(file, read_matrices(job.adapter.folder), slots)
        return _describe(
            job,
            folder,
            _verify(job, base, file, progress),
            entries_of(folder),
            kind="adapter",
            base_model_digest=manifest.model_digest,
            rank=rank,
        )


def _merged(job: ExportJob, folder: Path, progress: Progress) -> dict[str, str]:
    """The graph of the model, the adapter, if any, folded into its weights; its recipe."""
    built_from, recipe = job.model, dict(RECIPES[job.precision])
    if job.adapter is not None:
        progress("Merging the adapter", 0.0)
        built_from = folder.parent / "merged"
        save_merged(WarmModel(str(job.model), device="cpu"), job.adapter.folder, built_from)
        gc.collect()
    progress("Building the graph", 0.1)
    _build(job, built_from, folder, recipe)
    if built_from != job.model:
        shutil.rmtree(built_from)
    return recipe


def _base(job: ExportJob, shapes: BaseModel, folder: Path, progress: Progress) -> dict[str, str]:
    """The graph of the base, with a slot for every exchangeable module; its recipe."""
    modules = carried_modules(shapes, EXCHANGEABLE)
    if not modules:
        raise Invalid(
            "This model has none of the linear layers whose adapters can be exchanged "
            f"({', '.join(sorted(EXCHANGEABLE))}); export with --layout merged.",
            param="layout",
            code="unsupported_layout",
        )
    recipe = dict(RECIPES[job.precision])
    template = write_template(folder.parent / "slots", shapes, modules)
    options = {**recipe, "adapter_path": str(template)}
    if job.precision != "fp32":
        options["nodes_to_exclude"] = ",".join(lora_nodes(modules))
    progress("Building the graph", 0.0)
    _build(job, job.model, folder, options)
    open_slots(folder / MODEL_FOLDER / "model.onnx", modules)
    carried = sorted({module.rsplit(".", 1)[-1] for module in modules})
    return {**recipe, "adapters": ",".join(carried)}


def _build(job: ExportJob, built_from: Path, folder: Path, options: Mapping[str, str]) -> None:
    out = folder / MODEL_FOLDER
    build(built_from, out, job.precision, options, architecture=_architecture(job.model))
    path = job.model / "generation_config.json"
    if not path.is_file():
        return
    # The source's settings, and its sampling as the server reads it.
    shutil.copyfile(path, out / path.name)
    own = json.loads(path.read_text(encoding="utf-8"))
    config = json.loads((out / "genai_config.json").read_text(encoding="utf-8"))
    # The builder fills what is left out with transformers' defaults, a top_k of 50 among them;
    # the server leaves out what is left out.
    config["search"]["top_k"] = int(own.get("top_k") or 0)
    (out / "genai_config.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")


def _verify(
    job: ExportJob, exported: Path, adapter_file: Path | None, progress: Progress
) -> tuple[ModelEntry, Verification]:
    """Measure the source of `job` and hold the exported model, with an adapter, against it."""
    measuring = partial(_part(progress, 0.0, 0.6), "Measuring the source")
    verifying = partial(_part(progress, 0.6, 1.0), "Verifying")
    measuring(0.0)
    model, adapter = WarmModel(str(job.model), device="cpu"), job.adapter
    own = [prompt for prompt in job.prompts if fits(model, prompt)]
    prompts, prompt_source = enough_prompts(own, job.model)
    reference = measure(model, adapter.folder if adapter else None, prompts, measuring)
    context_length = model.context_tokens or 0
    del model
    gc.collect()
    verifying(0.0)
    runtime = Runtime(exported / MODEL_FOLDER, adapter_file)
    found = compare(runtime, reference, LIMITS[job.precision], prompt_source, verifying)
    hint = (
        "The model builder computes this architecture in another way than its source; serve it "
        "from the server."
        if job.precision == "fp32"
        else "Use a higher precision; if fp32 fails too, this model cannot be exported."
    )
    require_passed(found, f"{job.name} ({job.layout}, {job.precision})", hint)
    entry = ModelEntry(
        name=job.name,
        adapter=adapter.name if adapter else None,
        version=adapter.number if adapter else None,
        digest=adapter.digest if adapter else None,
        base=job.model_name,
        base_digest=base_digest(job.model),
        architecture=_architecture(job.model),
        context_length=context_length,
    )
    return entry, found


def _describe(
    job: ExportJob,
    folder: Path,
    verified: tuple[ModelEntry, Verification],
    files: Mapping[str, FileEntry],
    **fields: Any,
) -> Manifest:
    """Write the manifest of what lies in `folder`."""
    entry, verification = verified
    manifest = Manifest(
        precision=job.precision,
        model=entry,
        files=files,
        tools=_tools(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        verification=verification,
        **fields,
    )
    write_manifest(folder, manifest)
    return manifest


def _architecture(model: Path) -> str:
    """The class named in the model's configuration. Raises Invalid if there is none."""
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        return str(config["architectures"][0])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Invalid(
            f"{model} is not a model folder: its config.json names no architecture.", param="model"
        ) from error


def _part(progress: Progress, start: float, end: float) -> Progress:
    """`progress` of a step that takes the whole from `start` to `end`."""
    return lambda message, share: progress(message, start + (end - start) * share)


def _tools() -> dict[str, str]:
    found = {}
    for name in ("attune", *_TOOLS):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
