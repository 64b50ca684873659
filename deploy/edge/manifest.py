"""What an export says of itself: `manifest.json`, its files' digests, its measured figures.

Owns the format (number 1), reading and writing it, and the check of files against it. Shared by
the exporter, the server's client and the device. Must not know how an export is built, verified,
moved or run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, StrictInt, StrictStr, TypeAdapter, ValidationError

from core.errors import Conflict, Invalid
from core.files import digest_of, sha256_of, write_text

FORMAT: Final = 1
MANIFEST_NAME: Final = "manifest.json"
MODEL_FOLDER: Final = "model"
ADAPTERS_FOLDER: Final = "adapters"
ADAPTER_FILE: Final = "adapter.onnx_adapter"
DEVICE_DATABASE: Final = "edge.db"

Kind: TypeAlias = Literal["merged", "base", "adapter"]
Layout: TypeAlias = Literal["merged", "base+adapters"]
Precision: TypeAlias = Literal["fp32", "int8", "int4"]

_MANIFEST_MAX_BYTES = 4 << 20


def _is_content(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") for part in parts)
    outside = parts[0] in (ADAPTERS_FOLDER, MANIFEST_NAME) or parts[0].startswith(DEVICE_DATABASE)
    return not (hidden or outside)


def _inside(name: str) -> str:
    """A relative path with plain parts: it comes over the network and becomes a file name."""
    plain = PurePosixPath(name)
    strange = plain.is_absolute() or str(plain) != name or "\\" in name or "\0" in name
    if strange or not plain.parts or ".." in plain.parts or not _is_content(name):
        raise ValueError(f"strange path {name[:80]!r}")
    return name


FileName: TypeAlias = Annotated[StrictStr, AfterValidator(_inside)]
Sha256: TypeAlias = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]
Count: TypeAlias = Annotated[StrictInt, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an export: SHA-256 in lower-case hex, and bytes."""

    sha256: Sha256
    size_bytes: Count


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What was exported: `name` as clients ask for it (`support@3` or `base`).

    `digest` is the adapter artifact's, None for the base alone; `base_digest` the SHA-256 over
    the weight and config files of the base model it was built from.
    """

    name: StrictStr
    adapter: StrictStr | None
    version: Count | None
    digest: Sha256 | None
    base: StrictStr
    base_digest: Sha256
    architecture: StrictStr
    context_length: Count


@dataclass(frozen=True, slots=True)
class Verification:
    """How the export compares with its source, over `tokens` positions of `prompts` prompts.

    Shares are 0..1. `perplexity_difference` is relative: export / source - 1. `greedy_equal` is
    the share of prompts whose greedy answers agree token for token. `thresholds` are those it
    was held against.
    """

    prompts: Count
    prompt_source: StrictStr
    tokens: Count
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
    files: Annotated[Mapping[FileName, FileEntry], Field(min_length=1)]
    tools: Mapping[str, str]
    created_at: StrictStr
    verification: Verification | None
    layout: Layout | None = None
    model_digest: Sha256 | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    base_model_digest: Sha256 | None = None
    rank: Count | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `manifest.json`; fields that do not apply to the kind are left out."""
        left_out = _MODEL_ONLY if self.kind == "adapter" else _ADAPTER_ONLY
        body = {key: value for key, value in asdict(self).items() if key not in left_out}
        return {"format": FORMAT, **body}

    @classmethod
    def from_json(cls, body: Any, *, where: str = "The manifest") -> Manifest:
        """The manifest in a decoded JSON object; unknown fields are passed over.

        Raises Invalid, beginning with `where`, for another format or anything missing or strange,
        paths that leave the folder and a digest that is not that of the files among it.
        """
        if not isinstance(body, dict) or "format" not in body:
            raise Invalid(f"{where} is not an export's manifest.", param="manifest")
        if body["format"] != FORMAT:
            raise Invalid(
                f"{where} has format {str(body['format'])[:20]}; this version reads format "
                f"{FORMAT}. Export again, or update Attune here.",
                param="format",
            )
        needed = _ADAPTER_ONLY if body.get("kind") == "adapter" else ("layout", "model_digest")
        missing = [name for name in needed if body.get(name) is None]
        if missing:
            raise _damaged(where, f"{missing[0]} is missing")
        try:
            read = _reader().validate_python(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part)[:80] for part in first["loc"])
            raise _damaged(where, f"{place}: {first['msg']}") from error
        if read.kind == "adapter" and ADAPTER_FILE not in read.files:
            raise _damaged(where, f"it names no {ADAPTER_FILE}")
        if read.kind != "adapter" and read.model_digest != digest_of_files(read.files):
            raise _damaged(where, "model_digest is not that of its files")
        return read


@cache
def _reader() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def _damaged(where: str, what: str) -> Invalid:
    return Invalid(f"{where} is damaged ({what}). Export or pull it again.", param="manifest")


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
        body = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Invalid(
            f"{folder} holds no finished export: it has no {MANIFEST_NAME}. Export or pull it "
            "again.",
            param="manifest",
        ) from error
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error}.", param="manifest") from error
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
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
    return path


def file_entry(path: Path) -> FileEntry:
    """Digest and size of one file."""
    return FileEntry(sha256_of(path), path.stat().st_size)


def digest_of_files(files: Mapping[str, FileEntry]) -> str:
    """What identifies a model: one digest over its files' paths and digests."""
    return digest_of({name: entry.sha256 for name, entry in files.items()})


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

    Raises Conflict (code `digest_mismatch`) naming the first file that is missing or differs.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise _mismatch(f"{path} is missing")
        size = path.stat().st_size
        if size != entry.size_bytes:
            raise _mismatch(f"{path} has {size:,} bytes instead of {entry.size_bytes:,}")
        if sha256_of(path) != entry.sha256:
            raise _mismatch(f"{path} is not the file that was exported: its SHA-256 differs")


def _mismatch(what: str) -> Conflict:
    return Conflict(f"{what}. Export or pull it again.", param="files", code="digest_mismatch")
