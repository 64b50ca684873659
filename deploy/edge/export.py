"""Exports a model or one adapter of it: build, verify against the source, then appear.

Owns the order of the steps and what the manifest says. Must not know HTTP, runs or stores.
Importing it loads nothing heavy; the steps load torch, onnx and onnxruntime-genai when they run.

Every function calls `progress(message, share)` about twice a second with a share of 0 to 1; what
it raises ends the export, is passed on, and nothing remains. So does every error here: Invalid
(the model or adapter cannot be exported, or is not equal to its source), Conflict (the folder is
taken, the base export is another model's), Unavailable (disk full, packages missing).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adapters.validate import BaseModel, read_base
from core.errors import Conflict, Invalid
from deploy.edge.builder import RECIPES, build, require_architecture, require_packages
from deploy.edge.manifest import (
    ADAPTER_FILE,
    MODEL_FOLDER,
    Layout,
    Manifest,
    ModelEntry,
    Precision,
    Verification,
    adapter_folder,
    check_files,
    digest_of,
    entries_of,
    file_entry,
    read_manifest,
    write_manifest,
)
from deploy.edge.prompts import Conversation, enough_prompts
from deploy.edge.staging import staged
from deploy.edge.thresholds import DEFAULTS, Thresholds

if TYPE_CHECKING:
    from deploy.edge.reference import Expected, Source

Progress = Callable[[str, float], None]

EXCHANGEABLE: Final = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
)
"""Last names of the modules whose adapters a base export can exchange."""

_TOOLS = ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "torch", "transformers", "peft")
_SOURCE_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


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


def base_digest(model: Path) -> str:
    """SHA-256 over the base model's weights, configuration, tokenizer and template files.

    With the precision it says whether two exports can share a base.
    """
    found = sorted({file for pattern in _SOURCE_FILES for file in model.glob(pattern)})
    return digest_of({file.name: file_entry(file) for file in found if file.is_file()})


def export_model(job: ExportJob, out: Path, progress: Progress) -> Manifest:
    """Export into the folder `out`, which appears complete and verified, or not at all.

    `merged` folds the adapter in. `base+adapters` exports the base with exchangeable adapters
    and, if the job names an adapter, its file below it. Returns the manifest of the model.
    """
    base = _check(job)
    with staged(out) as (folder, scratch):
        if job.layout == "merged":
            return _export_merged(job, base, folder, scratch, progress)
        share = 0.6 if job.adapter_folder else 1.0
        manifest = _export_base(job, base, folder, scratch, _part(progress, 0.0, share))
        if job.adapter_folder is not None:
            target = adapter_folder(folder, job.name)
            target.mkdir(parents=True)
            _export_adapter(job, base, folder, manifest, target, _part(progress, share, 1.0))
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
    with staged(out) as (folder, _):
        return _export_adapter(job, source_model, base, manifest, folder, progress)


def _check(job: ExportJob) -> BaseModel:
    require_packages()
    if job.precision not in RECIPES:
        raise Invalid(f"precision must be one of {', '.join(RECIPES)}.", param="precision")
    require_architecture(_architecture(job.model))
    base = read_base(str(job.model))
    if job.adapter_folder is not None:
        from deploy.edge.adapter_file import check_adapter

        check_adapter(job.adapter_folder, base)
    return base


def _export_merged(
    job: ExportJob, base: BaseModel, folder: Path, scratch: Path, progress: Progress
) -> Manifest:
    from deploy.edge.reference import source

    progress("Measuring the source", 0.0)
    with source(job.model, job.adapter_folder) as model:
        reference, prompt_source = _measure(job, model, _part(progress, 0.0, 0.4))
        entry = _entry(job, model)
        built_from = job.model
        if job.adapter_folder is not None:
            built_from = scratch / "merged"
            model.save_merged(built_from)
    recipe = dict(RECIPES[job.precision])
    _build(job, entry, built_from, folder, recipe, _part(progress, 0.4, 0.7))
    shutil.rmtree(scratch / "merged", ignore_errors=True)
    verification = _verify(
        job, reference, prompt_source, folder, None, job.name, _part(progress, 0.7, 1.0)
    )
    return _finish(job, entry, folder, recipe, verification)


def _export_base(
    job: ExportJob, base: BaseModel, folder: Path, scratch: Path, progress: Progress
) -> Manifest:
    from deploy.edge.adapter_file import carried_modules, write_template
    from deploy.edge.graph import lora_nodes, open_slots
    from deploy.edge.reference import source

    modules = carried_modules(base, EXCHANGEABLE)
    if not modules:
        raise Invalid(
            "This model has none of the linear layers whose adapters can be exchanged "
            f"({', '.join(sorted(EXCHANGEABLE))}); export with --layout merged.",
            param="layout",
            code="unsupported_layout",
        )
    progress("Measuring the source", 0.0)
    with source(job.model, None) as model:
        reference, prompt_source = _measure(job, model, _part(progress, 0.0, 0.4))
        entry = _entry(job, model, alone=True)
    recipe = dict(RECIPES[job.precision])
    options = {**recipe, "adapter_path": str(write_template(scratch / "slots", base, modules))}
    if job.precision != "fp32":
        options["nodes_to_exclude"] = ",".join(lora_nodes(modules))
    _build(job, entry, job.model, folder, options, _part(progress, 0.4, 0.7))
    open_slots(folder / MODEL_FOLDER / "model.onnx", modules)
    recipe["adapters"] = ",".join(sorted({module.rsplit(".", 1)[-1] for module in modules}))
    verification = _verify(
        job, reference, prompt_source, folder, None, entry.name, _part(progress, 0.7, 1.0)
    )
    return _finish(job, entry, folder, recipe, verification)


def _export_adapter(
    job: ExportJob,
    base: BaseModel,
    exported: Path,
    base_manifest: Manifest,
    out: Path,
    progress: Progress,
) -> Manifest:
    from deploy.edge.adapter_file import check_adapter, read_matrices, write_onnx_adapter
    from deploy.edge.graph import read_slots
    from deploy.edge.reference import source

    assert job.adapter_folder is not None  # both callers have looked
    rank = check_adapter(job.adapter_folder, base)
    slots = read_slots(exported / MODEL_FOLDER / "model.onnx")
    write_onnx_adapter(out / ADAPTER_FILE, read_matrices(job.adapter_folder), slots)
    progress("Measuring the source", 0.0)
    with source(job.model, job.adapter_folder) as model:
        reference, prompt_source = _measure(job, model, _part(progress, 0.0, 0.6))
        entry = _entry(job, model)
    verification = _verify(
        job,
        reference,
        prompt_source,
        exported,
        out / ADAPTER_FILE,
        job.name,
        _part(progress, 0.6, 1.0),
    )
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


def _measure(job: ExportJob, model: Source, progress: Progress) -> tuple[list[Expected], str]:
    prompts, prompt_source = enough_prompts(job.prompts, job.prompt_source)
    asked = 0

    def on_wait() -> None:
        nonlocal asked
        progress("Measuring the source", min(1.0, asked / len(prompts)))
        asked += 16

    return model.measure(prompts, on_wait=on_wait), prompt_source


def _build(
    job: ExportJob,
    entry: ModelEntry,
    built_from: Path,
    folder: Path,
    options: Mapping[str, str],
    progress: Progress,
) -> None:
    progress("Building the graph", 0.0)
    build(
        built_from,
        folder / MODEL_FOLDER,
        job.precision,
        options,
        architecture=entry.architecture,
        on_wait=lambda: progress("Building the graph", 0.5),
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
    job: ExportJob,
    reference: list[Expected],
    prompt_source: str,
    exported: Path,
    adapter: Path | None,
    name: str,
    progress: Progress,
) -> Verification:
    from deploy.edge.verify import Runtime, compare, require_passed

    progress("Verifying", 0.0)
    found = compare(
        Runtime(exported / MODEL_FOLDER, adapter),
        reference,
        job.limits,
        prompt_source,
        lambda done: progress("Verifying", done / len(reference)),
    )
    hint = (
        "The model builder computes this architecture in another way than its source; serve it "
        "from the server."
        if job.precision == "fp32"
        else "Use a higher precision; if fp32 fails too, this model cannot be exported."
    )
    require_passed(found, job.limits, f"{name} ({job.layout}, {job.precision})", hint)
    return found


def _finish(
    job: ExportJob,
    entry: ModelEntry,
    folder: Path,
    recipe: Mapping[str, Any],
    verification: Verification,
) -> Manifest:
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
        model_digest=digest_of(files),
        recipe=recipe,
    )
    write_manifest(folder, manifest)
    return manifest


def _entry(job: ExportJob, model: Source, *, alone: bool = False) -> ModelEntry:
    """`alone`: the base, whatever adapter the job names besides."""
    adapter = None if alone else job.adapter
    return ModelEntry(
        name=job.name if adapter else job.model_name,
        adapter=adapter,
        version=job.version if adapter else None,
        digest=job.adapter_digest if adapter else None,
        base=job.model_name,
        base_digest=base_digest(job.model),
        architecture=model.architecture,
        context_length=model.context_length,
    )


def _architecture(model: Path) -> str:
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        return str(config["architectures"][0])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Invalid(
            f"{model} is not a model folder: its config.json names no architecture.", param="model"
        ) from error


def _part(progress: Progress, start: float, end: float) -> Progress:
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
