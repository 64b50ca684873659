"""What is installed in an export's folder, and which part of it a model name means.

Owns the reading of manifests on the device, the check of digests before first use, and the
choice of a version. Must not know how a model is run, nor the network.

The model's files lie in DIR/model, or, while one model takes the place of another, in
DIR/models/<first 8 of its digest>/model: DIR/manifest.json, replaced by rename, says which digest
counts, so the two change at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import AttuneError, Conflict, Invalid, NotFound
from deploy.edge.manifest import (
    ADAPTER_FILE,
    ADAPTERS_FOLDER,
    DEVICE_DATABASE,
    MANIFEST_NAME,
    MODEL_FOLDER,
    Manifest,
    check_files,
    read_manifest,
)

BASE = "base"
MODELS_FOLDER = "models"
STAGING = ".pull"
"""What a download keeps in an export's folder until it is done."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing that can answer: the model's own weights, or these with an adapter file.

    `digest` identifies it to the server: the model's digest, or that of the adapter file.
    """

    name: str
    adapter: str | None
    version: int | None
    digest: str
    file: Path | None


class Installation:
    """An export's folder as the device sees it. Adapters that arrive later are seen at once."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest. Raises Invalid, saying what to do, if there is no finished export."""
        self.folder = folder
        self.manifest = read_manifest(folder)
        if self.manifest.kind == "adapter":
            raise Invalid(
                f"{folder} is one adapter's folder; name the export's own folder, above "
                f"'{ADAPTERS_FOLDER}'."
            )
        self.root = model_root(folder, self.manifest)
        self._checked: dict[tuple[Path, int], str | None] = {}

    @property
    def model_folder(self) -> Path:
        """Where the graph, its settings and the tokenizer lie."""
        return self.root / MODEL_FOLDER

    @property
    def database(self) -> Path:
        """The device's own SQLite file."""
        return self.folder / DEVICE_DATABASE

    def check_model(self) -> None:
        """Hold the model's files against their digests. Raises Conflict or Invalid naming one."""
        check_files(self.root, self.manifest)

    def own(self) -> Variant:
        """The model's own weights: the base, or the one version of a merged export."""
        model, digest = self.manifest.model, self.manifest.model_digest or ""
        if self.manifest.kind == "merged":
            return Variant(model.name, model.adapter, model.version, digest, None)
        return Variant(BASE, None, None, digest, None)

    def adapters(self) -> list[Variant]:
        """Every adapter version with a fitting manifest, by name, newest first."""
        found = []
        for folder in self._adapter_folders():
            try:
                found.append(self._adapter(folder))
            except AttuneError:
                continue  # told by `problems`
        return sorted(found, key=lambda variant: (variant.adapter or "", -(variant.version or 0)))

    def problems(self) -> dict[str, str]:
        """Adapter folders that cannot be used, with the reason; checks every digest."""
        found: dict[str, str] = {}
        for folder in self._adapter_folders():
            try:
                self.check(self._adapter(folder))
            except AttuneError as error:
                found[folder.name] = error.message
        return found

    def names(self) -> list[str]:
        """Every name that `find` takes, for people to choose from."""
        own, adapters = self.own(), self.adapters()
        lines = dict.fromkeys(variant.adapter for variant in [own, *adapters] if variant.adapter)
        return [*lines, *dict.fromkeys(variant.name for variant in [own, *adapters])]

    def find(self, name: str) -> Variant:
        """What a request's `model` means, its file checked.

        `support` is the newest version that is whole, `support@3` that one, `base` (or the base
        model's own name) the base. Raises NotFound (code `model_not_found`), or Conflict if the
        version's file is damaged.
        """
        own = self.own()
        if name in (own.name, own.adapter or self.manifest.model.base):
            return own
        damaged: AttuneError | None = None
        for variant in self.adapters():
            if name not in (variant.name, variant.adapter):
                continue
            try:
                self.check(variant)
            except AttuneError as error:
                damaged = damaged or error
            else:
                return variant
        if damaged is not None:
            raise damaged
        raise NotFound(
            f"No model '{name[:100]}' is installed here. Installed: {', '.join(self.names())}.",
            param="model",
            code="model_not_found",
        )

    def usual(self) -> Variant:
        """What answers when no name is given: the one adapter there is, else the model itself.

        Raises Invalid if there are several adapters to choose from.
        """
        lines = list(dict.fromkeys(variant.adapter for variant in self.adapters()))
        if len(lines) > 1:
            raise Invalid(f"Say which adapter should answer: {', '.join(self.names())}.")
        return self.find(lines[0]) if lines and lines[0] else self.own()

    def check(self, variant: Variant) -> None:
        """Hold an adapter's file against its digest, once per file. Raises Conflict if damaged."""
        if variant.file is None:
            return
        folder = variant.file.parent
        # A version that is fetched anew has a manifest written anew.
        try:
            seen = (folder, (folder / MANIFEST_NAME).stat().st_mtime_ns)
        except OSError as error:  # removed since it was found
            raise Conflict(
                f"{folder} is gone; pull again.", param="model", code="adapter_damaged"
            ) from error
        if seen not in self._checked:
            try:
                check_files(folder, read_manifest(folder))
                self._checked[seen] = None
            except AttuneError as error:
                self._checked[seen] = error.message
        message = self._checked[seen]
        if message is not None:
            raise Conflict(message, param="model", code="adapter_damaged")

    def _adapter_folders(self) -> list[Path]:
        if self.manifest.layout != "base+adapters":
            return []
        parent = self.folder / ADAPTERS_FOLDER
        if not parent.is_dir():
            return []
        return sorted(
            path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")
        )

    def _adapter(self, folder: Path) -> Variant:
        manifest = read_manifest(folder)
        model = manifest.model
        if manifest.kind != "adapter" or model.name != folder.name:
            raise Invalid(f"{folder} does not hold the adapter it is named after. Remove it.")
        if manifest.base_model_digest != self.manifest.model_digest:
            raise Conflict(
                f"{folder.name} was made for another base than the one in {self.folder}. Remove "
                f"{folder} and pull again.",
                param="model",
                code="adapter_of_another_base",
            )
        digest = manifest.files[ADAPTER_FILE].sha256
        return Variant(model.name, model.adapter, model.version, digest, folder / ADAPTER_FILE)


def require_no_strangers_model(folder: Path) -> None:
    """Raises Conflict if `folder` holds a folder called as ours that no export has put there."""
    ours = any((folder / name).exists() for name in (MANIFEST_NAME, STAGING))
    if (folder / MODEL_FOLDER).exists() and not ours:
        raise Conflict(
            f"{folder} has a folder '{MODEL_FOLDER}' that belongs to no export. Choose an empty "
            "folder."
        )


def model_root(folder: Path, manifest: Manifest) -> Path:
    """The folder that the manifest's file names are relative to."""
    pulled = folder / MODELS_FOLDER / (manifest.model_digest or "")[:8]
    return pulled if manifest.model_digest and (pulled / MODEL_FOLDER).is_dir() else folder
