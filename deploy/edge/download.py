"""A finished export, downloaded into a folder: only what is missing, resumable, each file checked.

Owns the order of steps that keeps the folder usable whatever breaks: files arrive in DIR/.pull
(and stay there for the next try), an adapter becomes visible when its folder is renamed, a model
when DIR/manifest.json is. Must not know which export is wanted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core import files
from core.errors import AttuneError, Conflict, Invalid, Unavailable
from deploy.edge.http import Broken, Server
from deploy.edge.installed import (
    MODELS_FOLDER,
    STAGING,
    model_root,
    require_no_strangers_model,
)
from deploy.edge.manifest import (
    ADAPTER_FILE,
    ADAPTERS_FOLDER,
    MANIFEST_NAME,
    MODEL_FOLDER,
    FileEntry,
    Manifest,
    ModelEntry,
    adapter_folder,
    check_files,
    file_entry,
    read_manifest,
    write_manifest,
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A finished export on the server."""

    id: str
    created_at: str
    manifest: Manifest
    adapter: Manifest | None

    @classmethod
    def from_json(cls, export: Mapping[str, Any]) -> Offer:
        """The offer in the server's JSON. Raises Invalid for a manifest that is none."""
        where = f"The server's manifest of {str(export.get('model'))[:80]}"
        adapter = export.get("adapter_manifest")
        offer = cls(
            id=str(export.get("id")),
            created_at=str(export.get("created_at")),
            manifest=Manifest.from_json(export.get("manifest"), where=where),
            adapter=None if adapter is None else Manifest.from_json(adapter, where=where),
        )
        part = offer.adapter
        if offer.manifest.kind == "adapter" or (part is not None and part.kind != "adapter"):
            raise Invalid(f"{where} is of another kind. Export again.", param="manifest")
        return offer

    @property
    def model(self) -> ModelEntry:
        """What is exported: the adapter, or else the model."""
        return (self.adapter or self.manifest).model


@dataclass(frozen=True, slots=True)
class Download:
    """Brings offers from `server` into `folder`; its patience is told each file that travels.

    Each call returns the paths that had to travel. Raises Conflict where a manifest or a digest
    does not fit, Unavailable when the connection breaks for good or the disk is full.
    """

    folder: Path
    server: Server

    def whole(self, offer: Offer) -> list[str]:
        """The model and the adapter, whatever of them is not here; the model's manifest last."""
        come: list[str] = []
        staged = None
        if not is_there(self.folder, offer.manifest):
            staged, come = self._model_files(offer)
        if offer.adapter is not None:
            come += self.adapter(offer, offer.adapter)
        if staged is not None:
            self._place_model(staged, offer.manifest)
        self._tidy(offer.manifest)
        return come

    def adapter(self, offer: Offer, manifest: Manifest) -> list[str]:
        """One adapter's folder; an older one of that name makes room."""
        name = manifest.model.name
        target = adapter_folder(self.folder, name)
        if is_there(target, manifest):
            return []
        below = f"{ADAPTERS_FOLDER}/{name}/"
        staged = self.folder / STAGING / manifest.files[ADAPTER_FILE].sha256
        come = self._gather(offer.id, below, manifest.files, staged, target)
        write_manifest(staged, manifest)
        if target.exists():  # damaged, or left over from a base that is no longer here
            shutil.rmtree(target)
        files.put(staged, target)
        return come

    def _model_files(self, offer: Offer) -> tuple[Path, list[str]]:
        """The model's files in a folder of their own, checked, and those that travelled."""
        have = self.folder
        with suppress(AttuneError):
            have = model_root(self.folder, read_manifest(self.folder))
        staged = self.folder / STAGING / str(offer.manifest.model_digest)
        return staged, self._gather(offer.id, "", offer.manifest.files, staged, have)

    def _place_model(self, staged: Path, manifest: Manifest) -> None:
        """Put a gathered model where the manifest will look for it, then the manifest."""
        root = self.folder
        if (root / MODEL_FOLDER).exists():
            root = root / MODELS_FOLDER / str(manifest.model_digest)[:8]
            shutil.rmtree(root / MODEL_FOLDER, ignore_errors=True)
        files.put(staged / MODEL_FOLDER, root / MODEL_FOLDER)
        write_manifest(self.folder, manifest)

    def _tidy(self, manifest: Manifest) -> None:
        """Remove what no manifest points to, and let the model that counts lie in DIR/model."""
        root = model_root(self.folder, manifest)
        if root != self.folder:
            shutil.rmtree(self.folder / MODEL_FOLDER, ignore_errors=True)
            files.put(root / MODEL_FOLDER, self.folder / MODEL_FOLDER)
        for old in (self.folder / MODELS_FOLDER).glob("[0-9a-f]" * 8):
            shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):
            (self.folder / MODELS_FOLDER).rmdir()
        self.forget()

    def forget(self) -> None:
        """Remove what was kept for another try."""
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)

    def _gather(
        self,
        export_id: str,
        below: str,
        wanted: Mapping[str, FileEntry],
        staged: Path,
        have: Path,
    ) -> list[str]:
        """All `wanted` files in `staged`, checked: from an earlier try, from `have`, or fetched."""
        staged.mkdir(parents=True, exist_ok=True)
        missing = sum(
            entry.size_bytes - files.size_of(staged / name) for name, entry in wanted.items()
        )
        free = shutil.disk_usage(staged).free
        if missing > free:
            raise Unavailable(
                f"The disk of {self.folder} has {free:,} bytes free; {missing:,} are needed.",
                code="disk_full",
            )
        come = []
        for name, entry in wanted.items():
            target = staged / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _is_file(target, entry):
                continue
            if _is_file(have / name, entry):
                shutil.copyfile(have / name, target)
                files.sync(target)
            else:
                self._fetch(export_id, below + name, entry, target)
                come.append(below + name)
            files.sync(target.parent)
        return come

    def _fetch(self, export_id: str, path: str, entry: FileEntry, target: Path) -> None:
        if files.size_of(target) >= entry.size_bytes:  # whole, and not what it should be
            target.unlink(missing_ok=True)
        self.server.patience.say(f"Fetching {path} ({entry.size_bytes:,} bytes) ...")
        route = f"/v1/exports/{quote(export_id, safe='')}/files/{quote(path)}"
        self.server.fetch(route, entry, target)
        if not _is_file(target, entry):
            target.unlink()
            raise Conflict(
                f"{path} came, but its SHA-256 is not the one announced; it was thrown away. Try "
                "again; if it happens again, export again on the server.",
                code="digest_mismatch",
            )


def fetch_export(server: Server, export: Mapping[str, Any], out: Path) -> list[str]:
    """Bring `out` to hold the ready `export`; the paths that had to be downloaded.

    A base that is there already stays, and only the adapter's folder is added. Raises what
    `Download` does, and Conflict where `out` holds something else that adapters still need.
    """
    offer = Offer.from_json(export)
    with transfer(out):
        _require_room_for(out, offer.manifest)
        return Download(out, server).whole(offer)


@contextmanager
def transfer(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if need be, for one transfer; tell failures with what stays and to do."""
    stays = "What was installed stays in use; run the command again to go on from here."
    try:
        with files.disk_trouble(str(folder), stays):
            folder.mkdir(parents=True, exist_ok=True)
            busy = f"Another pull of {folder} is under way; wait for it."
            with files.locked(folder / ".pull.lock", busy, code="pull_under_way"):
                yield
    except Broken as error:
        raise Unavailable(f"{error.message} {stays}", code="transfer_broken") from error


def _require_room_for(out: Path, manifest: Manifest) -> None:
    """Raises Conflict if `out` holds another base whose adapters would be left without one, or a
    model that is none of ours."""
    require_no_strangers_model(out)
    if not (out / MANIFEST_NAME).is_file():
        return
    there = read_manifest(out)
    same_kind = (there.kind, there.precision) == (manifest.kind, manifest.precision)
    if there.model_digest == manifest.model_digest or (same_kind and manifest.kind == "merged"):
        return
    raise Conflict(
        f"{out} holds another export ({there.model.name}, {there.layout}, {there.precision}, "
        f"{str(there.model_digest)[:12]}). Choose an empty folder with --out.",
        param="out",
    )


def is_there(folder: Path, manifest: Manifest) -> bool:
    """Whether the model or adapter of the manifest lies in `folder`, every file of it sound."""
    try:
        there = read_manifest(folder)
        check_files(model_root(folder, there), there)
    except AttuneError:
        return False
    return there == manifest


def _is_file(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size_bytes and file_entry(path) == entry
