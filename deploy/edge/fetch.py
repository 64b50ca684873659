"""A finished export, downloaded into a folder: only what is missing, checked, resumable.

Owns the order of steps: files arrive in DIR/.fetch (and stay there for the next try), are checked,
take their place by rename, and the manifest comes last. Must not know how exports are made.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.errors import AttuneError, Conflict, Unavailable
from deploy.edge.http import Broken, Patience, Server
from deploy.edge.installed import TRANSFER_FOLDERS, require_no_strangers_model
from deploy.edge.manifest import (
    ADAPTERS_FOLDER,
    MANIFEST_NAME,
    MODEL_FOLDER,
    FileEntry,
    Manifest,
    adapter_folder,
    check_files,
    file_entry,
    read_manifest,
    sync_folder,
    write_manifest,
)

STAGING = TRANSFER_FOLDERS[1]
_OLD = ".old"


def fetch_export(
    server: Server,
    export: Mapping[str, Any],
    out: Path,
    *,
    say: Callable[[str], None],
    patience: Patience | None = None,
) -> list[str]:
    """Bring `out` to hold the ready `export`; the paths that had to be downloaded.

    A base that is there already stays, and only the adapter's folder is added. Raises Conflict
    where `out` holds something else that adapters still need, or a digest differs at the end;
    Unavailable when the connection breaks for good or the disk is full: begin again, it goes on.
    """
    manifest = Manifest.from_json(export["manifest"], where="The server's manifest")
    adapter = export.get("adapter_manifest")
    transfer = _Transfer(server, str(export["id"]), out, say, patience or Patience(say=say))
    with _told(out):
        _require_room_for(out, manifest)
        out.mkdir(parents=True, exist_ok=True)
        come = transfer.model(manifest)
        if adapter is not None:
            parsed = Manifest.from_json(adapter, where="The server's adapter manifest")
            come += transfer.adapter(parsed)
        shutil.rmtree(out / STAGING, ignore_errors=True)
    return come


class _Transfer:
    """One download of one export into one folder."""

    def __init__(
        self,
        server: Server,
        export_id: str,
        out: Path,
        say: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self._server = server
        self._export_id = export_id
        self._out = out
        self._say = say
        self._patience = patience

    def model(self, manifest: Manifest) -> list[str]:
        """The model's files and the top-level manifest; [] if they are there and sound."""
        if _is_there(self._out, manifest):
            return []
        staged = self._out / STAGING / str(manifest.model_digest)
        come = self._gather(manifest, staged, self._out, "")
        # From here to the new manifest the folder holds nothing finished; every step may be redone.
        (self._out / MANIFEST_NAME).unlink(missing_ok=True)
        _swap(staged / MODEL_FOLDER, self._out / MODEL_FOLDER)
        write_manifest(self._out, manifest)
        return come

    def adapter(self, manifest: Manifest) -> list[str]:
        """One adapter's folder; [] if it is there and sound."""
        target = adapter_folder(self._out, manifest.model.name)
        if _is_there(target, manifest):
            return []
        below = f"{ADAPTERS_FOLDER}/{manifest.model.name}/"
        staged = self._out / STAGING / manifest.model.name
        come = self._gather(manifest, staged, target, below)
        write_manifest(staged, manifest)
        target.parent.mkdir(exist_ok=True)
        _swap(staged, target)
        return come

    def _gather(self, manifest: Manifest, staged: Path, have: Path, below: str) -> list[str]:
        """All files of the manifest in `staged`: taken over from `have` where they are the same."""
        come = []
        for name, entry in manifest.files.items():
            target = staged / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _is_file(target, entry):
                continue
            if _is_file(have / name, entry):
                shutil.copyfile(have / name, target)
                continue
            self._say(f"Fetching {below}{name} ({entry.size_bytes:,} bytes)")
            path = f"/v1/exports/{quote(self._export_id)}/files/{quote(below + name)}"
            self._patience.keep_trying(
                partial(self._server.fetch, path, entry, target), partial(_size, target)
            )
            come.append(below + name)
        for folder in {(staged / name).parent for name in manifest.files}:
            sync_folder(folder)
        check_files(staged, manifest)
        return come


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


def _is_there(folder: Path, manifest: Manifest) -> bool:
    try:
        there = read_manifest(folder)
        check_files(folder, manifest)
    except AttuneError:
        return False
    return there == manifest


def _is_file(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size_bytes and file_entry(path) == entry


def _swap(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`, which may exist."""
    old = target.parent / f".{target.name}{_OLD}"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(new, target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    try:
        yield
    except Broken as error:
        raise Unavailable(
            f"{error.message} Run the command again: it goes on from here."
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "its disk is full" if full else str(error)
        raise Unavailable(
            f"{out} cannot be written: {what}. What has come is kept; run the command again.",
            code="disk_full" if full else "store_unavailable",
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
