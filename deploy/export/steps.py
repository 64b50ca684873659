"""The steps of an export: build the graph, measure the source, compare, describe.

Owns their order in each layout and what the manifest says. Building comes first, so that a model
the builder does not know is refused before anything long is done. Must not know where the folders
come from; a folder's parent is scratch space. The steps load torch, onnx and onnxruntime-genai.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adapters.artifacts.digest import base_digest
from adapters.validate import BaseModel
from core.errors import Invalid
from deploy.edge.manifest import (
    ADAPTER_FILE,
    MODEL_FOLDER,
    Manifest,
    ModelEntry,
    Verification,
    digest_of_files,
    entries_of,
    file_entry,
    write_manifest,
)
from deploy.export.builder import RECIPES, build
from deploy.export.prompts import enough_prompts
from deploy.export.request import ExportJob, Progress

if TYPE_CHECKING:
    from deploy.export.reference import Source

EXCHANGEABLE: Final = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
)
"""Last names of the modules whose adapters a base export can exchange."""

_TOOLS = ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "torch", "transformers", "peft")


def merged(job: ExportJob, folder: Path, progress: Progress) -> Manifest:
    """The layout `merged`: the adapter, if any, folded into the weights the graph is built from."""
    from deploy.export.reference import source

    built_from = job.model
    if job.adapter_folder is not None:
        progress("Merging the adapter", 0.0)
        built_from = folder.parent / "merged"
        with source(job.model, job.adapter_folder) as model:
            model.save_merged(built_from)
    recipe = dict(RECIPES[job.precision])
    _build(job, built_from, folder, recipe, part(progress, 0.1, 0.4))
    if built_from != job.model:
        shutil.rmtree(built_from)
    return _finish(job, folder, recipe, part(progress, 0.4, 1.0))


def base(job: ExportJob, shapes: BaseModel, folder: Path, progress: Progress) -> Manifest:
    """The base of the layout `base+adapters`, with a slot for every exchangeable module."""
    from deploy.export.adapter_file import carried_modules, write_template
    from deploy.export.graph import lora_nodes, open_slots

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
    _build(job, job.model, folder, options, part(progress, 0.0, 0.3))
    open_slots(folder / MODEL_FOLDER / "model.onnx", modules)
    recipe["adapters"] = ",".join(sorted({module.rsplit(".", 1)[-1] for module in modules}))
    alone = replace(job, adapter_folder=None, adapter=None, version=None, adapter_digest=None)
    return _finish(alone, folder, recipe, part(progress, 0.3, 1.0))


def adapter(
    job: ExportJob,
    shapes: BaseModel,
    exported: Path,
    base_manifest: Manifest,
    out: Path,
    progress: Progress,
) -> Manifest:
    """One adapter's file for the base export in `exported`, written to `out`."""
    from deploy.export.adapter_file import check_adapter, read_matrices, write_onnx_adapter
    from deploy.export.graph import read_slots

    assert job.adapter_folder is not None  # both callers have looked
    rank = check_adapter(job.adapter_folder, shapes)
    slots = read_slots(exported / MODEL_FOLDER / "model.onnx")
    write_onnx_adapter(out / ADAPTER_FILE, read_matrices(job.adapter_folder), slots)
    entry, verification = _verify(job, exported, out / ADAPTER_FILE, progress)
    manifest = Manifest(
        kind="adapter",
        precision=job.precision,
        model=entry,
        files={ADAPTER_FILE: file_entry(out / ADAPTER_FILE)},
        tools=_tools(),
        created_at=_now(),
        verification=verification,
        base_model_digest=base_manifest.model_digest,
        rank=rank,
    )
    write_manifest(out, manifest)
    return manifest


def _build(
    job: ExportJob, built_from: Path, folder: Path, options: Mapping[str, str], progress: Progress
) -> None:
    progress("Building the graph", 0.0)
    config = json.loads((job.model / "config.json").read_text(encoding="utf-8"))
    build(
        built_from,
        folder / MODEL_FOLDER,
        job.precision,
        options,
        architecture=config["architectures"][0],
    )
    _add_generation_settings(job.model, folder / MODEL_FOLDER)


def _add_generation_settings(model: Path, out: Path) -> None:
    """Take over the source's generation_config.json, and its sampling as the server reads it."""
    path = model / "generation_config.json"
    if not path.is_file():
        return
    shutil.copyfile(path, out / path.name)
    own = json.loads(path.read_text(encoding="utf-8"))
    config = json.loads((out / "genai_config.json").read_text(encoding="utf-8"))
    # The builder fills what is left out with transformers' defaults, a top_k of 50 among them;
    # the server leaves out what is left out.
    config["search"]["top_k"] = int(own.get("top_k") or 0)
    (out / "genai_config.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")


def _verify(
    job: ExportJob, exported: Path, adapter: Path | None, progress: Progress
) -> tuple[ModelEntry, Verification]:
    """Measure the source of `job` and hold the exported model, with an adapter, against it."""
    from deploy.export.reference import source
    from deploy.export.verify import Runtime, compare, require_passed

    measuring, verifying = part(progress, 0.0, 0.6), part(progress, 0.6, 1.0)
    measuring("Measuring the source", 0.0)
    with source(job.model, job.adapter_folder) as model:
        own = [prompt for prompt in job.prompts if model.fits(prompt)]
        prompts, prompt_source = enough_prompts(own, job.prompt_source, job.model)
        reference = model.measure(
            prompts, lambda done: measuring("Measuring the source", done / len(prompts))
        )
        entry = _entry(job, model)
    verifying("Verifying", 0.0)
    found = compare(
        Runtime(exported / MODEL_FOLDER, adapter),
        reference,
        job.limits,
        prompt_source,
        lambda done: verifying("Verifying", done / len(reference)),
    )
    hint = (
        "The model builder computes this architecture in another way than its source; serve it "
        "from the server."
        if job.precision == "fp32"
        else "Use a higher precision; if fp32 fails too, this model cannot be exported."
    )
    require_passed(found, job.limits, f"{job.name} ({job.layout}, {job.precision})", hint)
    return entry, found


def _finish(
    job: ExportJob,
    folder: Path,
    recipe: Mapping[str, Any],
    progress: Progress,
) -> Manifest:
    """Verify a built model as what `job` says is in it, and write its manifest."""
    entry, verification = _verify(job, folder, None, progress)
    files = entries_of(folder)
    manifest = Manifest(
        kind="merged" if job.layout == "merged" else "base",
        precision=job.precision,
        model=entry,
        files=files,
        tools=_tools(),
        created_at=_now(),
        verification=verification,
        layout=job.layout,
        model_digest=digest_of_files(files),
        recipe=recipe,
    )
    write_manifest(folder, manifest)
    return manifest


def _entry(job: ExportJob, model: Source) -> ModelEntry:
    return ModelEntry(
        name=job.name,
        adapter=job.adapter,
        version=job.version,
        digest=job.adapter_digest,
        base=job.model_name,
        base_digest=base_digest(job.model),
        architecture=model.architecture,
        context_length=model.context_length,
    )


def part(progress: Progress, start: float, end: float) -> Progress:
    """`progress` of a step that takes the whole from `start` to `end`."""
    return lambda message, share: progress(message, start + (end - start) * share)


def _tools() -> dict[str, str]:
    found = {}
    for name in ("attune", *_TOOLS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
