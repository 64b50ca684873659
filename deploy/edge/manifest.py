"""What an export says of itself: `manifest.json`, its files' digests, its measured figures.

Owns the format (number 1), reading and writing it, and the check of files against it. Shared by
the exporter, the server's client and the device: standard library and `core.errors` only. Must
not know how an export is built, verified, moved or run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from core.errors import Conflict, Invalid

FORMAT: Final = 1
MANIFEST_NAME: Final = "manifest.json"
MODEL_FOLDER: Final = "model"
ADAPTERS_FOLDER: Final = "adapters"
ADAPTER_FILE: Final = "adapter.onnx_adapter"
DEVICE_DATABASE: Final = "edge.db"

Kind: TypeAlias = Literal["merged", "base", "adapter"]
Layout: TypeAlias = Literal["merged", "base+adapters"]
Precision: TypeAlias = Literal["fp32", "int8", "int4"]

_HEX = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_MANIFEST_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an export: SHA-256 in lower-case hex, and bytes."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What was exported: `name` as clients ask for it (`support@3` or `base`).

    `digest` is the adapter artifact's, None for the base alone; `base_digest` the SHA-256 over
    the weight and config files of the base model it was built from.
    """

    name: str
    adapter: str | None
    version: int | None
    digest: str | None
    base: str
    base_digest: str
    architecture: str
    context_length: int


@dataclass(frozen=True, slots=True)
class Verification:
    """How the export compares with its source, over `tokens` positions of `prompts` prompts.

    Shares are 0..1. `perplexity_difference` is relative: export / source - 1. `greedy_equal` is
    the share of prompts whose greedy answers agree token for token. `thresholds` are those it
    was held against.
    """

    prompts: int
    prompt_source: str
    tokens: int
    argmax_agreement: float
    top5_overlap: float
    perplexity_source: float
    perplexity_export: float
    perplexity_difference: float
    greedy_equal: float
    max_logit_difference: float
    thresholds: Mapping[str, float]
    passed: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest: of a model (`merged`, `base`), or of an `adapter` of an exported base.

    `files` are relative to the manifest's own folder, with `/`. `layout` and `model_digest` are
    None for an adapter; `base_model_digest` (the `model_digest` of the export it runs on) and
    `rank` are None for a model.
    """

    kind: Kind
    precision: Precision
    model: ModelEntry
    files: Mapping[str, FileEntry]
    tools: Mapping[str, str]
    created_at: str
    verification: Verification | None
    layout: Layout | None = None
    model_digest: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    base_model_digest: str | None = None
    rank: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `manifest.json`; fields that do not apply to the kind are left out."""
        left_out = _MODEL_ONLY if self.kind == "adapter" else _ADAPTER_ONLY
        body = {key: value for key, value in asdict(self).items() if key not in left_out}
        return {"format": FORMAT, **body}

    @classmethod
    def from_json(cls, body: Any, *, where: str = "The manifest") -> Manifest:
        """The manifest in a decoded JSON object; unknown fields are passed over.

        Raises Invalid, beginning with `where`, for another format or anything missing or strange,
        paths that leave the folder among it.
        """
        if not isinstance(body, dict) or "format" not in body:
            raise Invalid(f"{where} is not an export's manifest.", param="manifest")
        if body["format"] != FORMAT:
            raise Invalid(
                f"{where} has format {str(body['format'])[:20]}; this version reads format "
                f"{FORMAT}. Export again, or update Attune here.",
                param="format",
            )
        try:
            return _parse(cls, body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Invalid(
                f"{where} is damaged ({type(error).__name__}: {str(error)[:120]}). Export or pull "
                "it again.",
                param="manifest",
            ) from error


_MODEL_ONLY = ("layout", "model_digest", "recipe")
_ADAPTER_ONLY = ("base_model_digest", "rank")


def adapter_folder(root: Path, name: str) -> Path:
    """Where version `name` (`support@3`) of an export at `root` lies; Invalid if strange."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*@[1-9][0-9]*", name) or ".." in name:
        raise Invalid(f"{name[:80]!r} is not an adapter version: NAME@N.", param="adapter")
    return root / ADAPTERS_FOLDER / name


def read_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`.

    Raises Invalid, saying what to do, if there is none (the export was never finished), or if it
    is damaged or of another format.
    """
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > _MANIFEST_MAX_BYTES:
            raise Invalid(f"{path} is too large for a manifest. Export again.", param="manifest")
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Invalid(
            f"{folder} holds no finished export: it has no {MANIFEST_NAME}. Export or pull it "
            "again.",
            param="manifest",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}.", param="manifest") from error
    try:
        body = json.loads(text)
    except ValueError as error:
        raise Invalid(
            f"{path} is damaged: it is not JSON. Export or pull it again.", param="manifest"
        ) from error
    return Manifest.from_json(body, where=str(path))


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write `manifest.json` into `folder`, synced and by rename; what was there stays until then.

    The last step of everything that makes an export. Raises OSError as the file system does.
    """
    path = folder / MANIFEST_NAME
    partial = folder / f".{MANIFEST_NAME}.partial"
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return path


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_entry(path: Path) -> FileEntry:
    """Digest and size of one file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(digest.hexdigest(), size)


def entries_of(folder: Path, *, below: str | None = None) -> dict[str, FileEntry]:
    """Every file under `folder` (or its subfolder `below`) by its path relative to `folder`.

    Manifests, hidden files, the device's database and the adapters' folder are not part of it.
    """
    start = folder / below if below else folder
    found = {
        file.relative_to(folder).as_posix(): file for file in start.rglob("*") if file.is_file()
    }
    return {name: file_entry(found[name]) for name in sorted(found) if _is_content(name)}


def check_files(folder: Path, manifest: Manifest) -> None:
    """Hold every file the manifest names against its size and digest.

    Raises Conflict (code `digest_mismatch`) naming the first file that is missing or differs, and
    Invalid if the manifest's own `model_digest` is not that of its files.
    """
    if manifest.model_digest is not None and manifest.model_digest != digest_of(manifest.files):
        raise Invalid(
            f"The manifest in {folder} does not fit itself: model_digest is not that of its "
            "files. Export or pull it again.",
            param="model_digest",
        )
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise _mismatch(f"{path} is missing")
        size = path.stat().st_size
        if size != entry.size_bytes:
            raise _mismatch(f"{path} has {size:,} bytes instead of {entry.size_bytes:,}")
        if file_entry(path).sha256 != entry.sha256:
            raise _mismatch(f"{path} is not the file that was exported: its SHA-256 differs")


def digest_of(files: Mapping[str, FileEntry]) -> str:
    """SHA-256 (hex) of the canonical JSON object of path -> SHA-256."""
    digests = {name: entry.sha256 for name, entry in files.items()}
    text = json.dumps(digests, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _mismatch(what: str) -> Conflict:
    return Conflict(f"{what}. Export or pull it again.", param="files", code="digest_mismatch")


def _is_content(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") for part in parts)
    outside = parts[0] in (ADAPTERS_FOLDER, MANIFEST_NAME) or parts[0].startswith(DEVICE_DATABASE)
    return not (hidden or outside)


def _parse(cls: type[Manifest], body: Mapping[str, Any]) -> Manifest:
    kind = _one_of(body["kind"], Kind)
    adapter = kind == "adapter"
    files = {_inside(name): _file(entry) for name, entry in body["files"].items()}
    if not files:
        raise ValueError("it names no files")
    found = body.get("verification")
    return cls(
        kind=kind,
        precision=_one_of(body["precision"], Precision),
        model=_model(body["model"]),
        files=files,
        tools={str(name): str(version) for name, version in body["tools"].items()},
        created_at=_text(body["created_at"]),
        verification=None if found is None else _verification(found),
        layout=None if adapter else _one_of(body["layout"], Layout),
        model_digest=None if adapter else _hex(body["model_digest"]),
        recipe=dict(body.get("recipe") or {}),
        base_model_digest=_hex(body["base_model_digest"]) if adapter else None,
        rank=_whole(body["rank"]) if adapter else None,
    )


def _model(body: Mapping[str, Any]) -> ModelEntry:
    adapter, version, digest = body["adapter"], body["version"], body["digest"]
    return ModelEntry(
        name=_text(body["name"]),
        adapter=None if adapter is None else _text(adapter),
        version=None if version is None else _whole(version),
        digest=None if digest is None else _hex(digest),
        base=_text(body["base"]),
        base_digest=_hex(body["base_digest"]),
        architecture=_text(body["architecture"]),
        context_length=_whole(body["context_length"]),
    )


def _verification(body: Mapping[str, Any]) -> Verification:
    return Verification(
        prompts=_whole(body["prompts"]),
        prompt_source=_text(body["prompt_source"]),
        tokens=_whole(body["tokens"]),
        argmax_agreement=float(body["argmax_agreement"]),
        top5_overlap=float(body["top5_overlap"]),
        perplexity_source=float(body["perplexity_source"]),
        perplexity_export=float(body["perplexity_export"]),
        perplexity_difference=float(body["perplexity_difference"]),
        greedy_equal=float(body["greedy_equal"]),
        max_logit_difference=float(body["max_logit_difference"]),
        thresholds={str(name): float(value) for name, value in body["thresholds"].items()},
        passed=bool(body["passed"]),
    )


def _file(body: Mapping[str, Any]) -> FileEntry:
    return FileEntry(_hex(body["sha256"]), _whole(body["size_bytes"]))


def _inside(name: str) -> str:
    """A relative path with plain parts: it comes over the network and becomes a file name."""
    plain = PurePosixPath(name)
    strange = plain.is_absolute() or str(plain) != name or "\\" in name or "\0" in name
    if strange or not plain.parts or ".." in plain.parts or not _is_content(name):
        raise ValueError(f"strange path {name[:80]!r}")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a whole number, found {str(value)[:40]!r}")
    return value


def _hex(value: Any) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError(f"expected a SHA-256, found {str(value)[:80]!r}")
    return value


def _one_of(value: Any, choices: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{str(value)[:40]!r} is none of {', '.join(get_args(choices))}")
    return cast("Any", value)
