"""Content-addressed files: adapter folders, dataset snapshots and exports, written by rename.

The store is a folder by default or any fsspec URL. Engines read local folders only, so a remote
artifact is fetched into a local cache and its digest is checked before anyone may use it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from core.errors import NotFound, Unavailable
from core.ids import Digest, parse_digest

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

_SETTLED_NS = 2 * 10**9
_MAX_SOUND_FOLDERS = 10_000

_AsItIs = tuple[int, int, int, int]
"""A file's inode, size, and times of its last write and change (ns)."""


@contextmanager
def _reachable() -> Iterator[None]:
    """Disk and network trouble, in the one kind that callers and servers know how to bear."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(
                "The disk of the artifact store is full: free some space, then try again.",
                code="disk_full",
            ) from error
        raise Unavailable(
            f"The artifact store cannot be used now ({error.strerror}); check the disk or the "
            "network."
        ) from error


class ArtifactStore:
    """Folders and blobs by the SHA-256 of their content; immutable once written."""

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        self._remote = "://" in url and not url.startswith("file://")
        local = url.removeprefix("file://")
        self._url = url.rstrip("/")
        self._root = (cache or Path(".attune/cache")) if self._remote else Path(local)
        self._root = self._root.resolve()
        # Blobs already read and found sound, by what the file system said of them then.
        self._sound: dict[str, tuple[int, int, int]] = {}
        self._sound_folders: dict[str, tuple[_AsItIs, ...]] = {}

    @_reachable()
    def put_folder(self, source: Path) -> Digest:
        """Store the two files of an adapter folder; storing the same content again is free."""
        files = file_digests(source)
        digest = folder_digest(files)
        target = self._folder(digest)
        if not target.is_dir():
            with self.staging() as staged:
                for name in files:
                    shutil.copyfile(source / name, staged / name)
                    _sync(staged / name)
                self._publish(staged, target)
        if self._remote:
            self._upload(target, digest)
        return digest

    @_reachable()
    def folder(self, digest: Digest) -> Path:
        """The local, absolute folder of an adapter, fetched and verified if it is remote.

        Raises NotFound if the store lacks it, Unavailable if its content is not its digest.
        """
        target = self._folder(parse_digest(digest))
        if not target.is_dir():
            if not self._remote:
                raise NotFound(f"Artifact {digest[:12]}… is missing from {self._root}.")
            with self.staging() as staged:
                self._download(digest, staged)
                self._publish(staged, target)
        return target

    @_reachable()
    def check(self, digest: Digest) -> Path:
        """`folder`, after reading every byte and comparing it with the digest.

        Content is read once per process and again when the file system says that a file is not
        the one read then. Raises NotFound or Unavailable; nothing that fails here may reach the
        engine.
        """
        target = self.folder(digest)
        try:
            seen = _files_as_they_are(target)
            if self._sound_folders.get(digest) == seen:
                return target
            sound = folder_digest(file_digests(target)) == digest
        except NotFound:
            sound = False
        else:
            # What was written this very moment may be written again without another time stamp.
            if sound and max(at_ns for *_, at_ns in seen) < time.time_ns() - _SETTLED_NS:
                if len(self._sound_folders) >= _MAX_SOUND_FOLDERS:
                    self._sound_folders.pop(next(iter(self._sound_folders)), None)
                self._sound_folders[digest] = seen
        if not sound:
            raise Unavailable(
                f"Artifact {digest[:12]}… in {target} is damaged: its content no longer matches "
                "its digest. Restore the folder from a backup or roll the adapter back."
            )
        return target

    @_reachable()
    def put_bytes(self, content: bytes) -> Digest:
        """Store a blob (a dataset snapshot)."""
        digest = Digest(hashlib.sha256(content).hexdigest())
        target = self._root / "blobs" / digest[:2] / digest
        if not target.is_file():
            with self.staging() as staged:
                (staged / "blob").write_bytes(content)
                _sync(staged / "blob")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged / "blob", target)
            _sync(target.parent)
        if self._remote:
            self._filesystem().pipe_file(f"{self._url}/blobs/{digest[:2]}/{digest}", content)
        return digest

    @_reachable()
    def read_bytes(self, digest: Digest) -> bytes:
        """A blob's content. Raises NotFound or Unavailable (damaged)."""
        target = self._root / "blobs" / digest[:2] / parse_digest(digest)
        if target.is_file():
            content = target.read_bytes()
        elif self._remote:
            content = self._fetch(f"blobs/{digest[:2]}/{digest}")
        else:
            raise NotFound(f"Blob {digest[:12]}… is missing from {self._root}.")
        if hashlib.sha256(content).hexdigest() != digest:
            raise Unavailable(f"Blob {digest[:12]}… is damaged: restore it from a backup.")
        return content

    @_reachable()
    def put_file(self, source: Path) -> Digest:
        """Store a file of any size as a blob, in pieces; a damaged one is replaced."""
        with source.open("rb") as file:
            digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        target = self._blob(digest)
        if not self._is_sound(target, digest):
            with self.staging() as staged:
                shutil.copyfile(source, staged / "blob")
                _sync(staged / "blob")
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged / "blob", target)
            _sync(target.parent)
            if not self._is_sound(target, digest):
                raise Unavailable(f"{source.name} changed while it was being stored; try again.")
        if self._remote:
            self._filesystem().put_file(str(target), f"{self._url}/{self._key(digest)}")
        return digest

    @_reachable()
    def file(self, digest: Digest) -> Path:
        """The local path of a blob, fetched in pieces if it is remote, its content checked.

        Content is read once per process and again when the file has changed. The file must not
        be written to. Raises NotFound if the store lacks it, Unavailable if it is damaged.
        """
        target = self._blob(parse_digest(digest))
        if self._is_sound(target, digest):
            return target
        if not self._remote:
            if not target.is_file():
                raise NotFound(f"Blob {digest[:12]}… is missing from {self._root}.")
            raise Unavailable(
                f"Blob {digest[:12]}… is damaged: its content no longer matches its digest. "
                "Restore it from a backup, or have it made again."
            )
        with self.staging() as staged:
            try:
                self._filesystem().get_file(
                    f"{self._url}/{self._key(digest)}", str(staged / "blob")
                )
            except FileNotFoundError as error:
                raise NotFound(f"Blob {digest[:12]}… is missing from {self._url}.") from error
            if not self._is_sound(staged / "blob", digest):
                raise Unavailable(f"Blob {digest[:12]}… arrived damaged from {self._url}.")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged / "blob", target)
        return target

    @_reachable()
    def has_file(self, digest: Digest, size_bytes: int) -> bool:
        """Whether `file` can be expected to work: a local blob is read, a remote one looked up."""
        if self._is_sound(self._blob(parse_digest(digest)), digest):
            return True
        if not self._remote:
            return False
        try:
            return self._filesystem().size(f"{self._url}/{self._key(digest)}") == size_bytes
        except FileNotFoundError:
            return False

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder on the store's own disk, gone afterwards unless renamed away."""
        (self._root / "staging").mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=self._root / "staging"))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _key(self, digest: str) -> str:
        return f"blobs/{digest[:2]}/{digest}"

    def _blob(self, digest: str) -> Path:
        return self._root / "blobs" / digest[:2] / digest

    def _is_sound(self, path: Path, digest: str) -> bool:
        if not path.is_file():
            return False
        seen = path.stat()
        state = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
        if self._sound.get(digest) == state:
            return True
        with path.open("rb") as file:
            sound = hashlib.file_digest(file, "sha256").hexdigest() == digest
        if sound:
            self._sound[digest] = state
        return sound

    def _folder(self, digest: str) -> Path:
        return self._root / "adapters" / digest[:2] / digest

    def _publish(self, staged: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(staged, 0o755)
        _sync(staged)
        try:
            os.rename(staged, target)
        except OSError:
            # Somebody stored the same content at the same moment: theirs is as good.
            if not target.is_dir():
                raise
        _sync(target.parent)

    def _filesystem(self) -> _FileSystem:
        import fsspec

        filesystem: _FileSystem = fsspec.core.url_to_fs(self._url)[0]
        return filesystem

    def _upload(self, folder: Path, digest: Digest) -> None:
        filesystem = self._filesystem()
        for name in ADAPTER_FILES:
            remote = f"{self._url}/adapters/{digest[:2]}/{digest}/{name}"
            filesystem.pipe_file(remote, (folder / name).read_bytes())

    def _download(self, digest: Digest, into: Path) -> None:
        for name in ADAPTER_FILES:
            (into / name).write_bytes(self._fetch(f"adapters/{digest[:2]}/{digest}/{name}"))
        if folder_digest(file_digests(into)) != digest:
            raise Unavailable(f"Artifact {digest[:12]}… arrived damaged from {self._url}.")

    def _fetch(self, path: str) -> bytes:
        try:
            return bytes(self._filesystem().cat_file(f"{self._url}/{path}"))
        except FileNotFoundError as error:
            raise NotFound(f"{path} is missing from {self._url}.") from error


class _FileSystem(Protocol):
    """The part of fsspec's AbstractFileSystem used here: whole files in, whole files out.

    `put_file` and `get_file` copy between a local path and the store in pieces.
    """

    def pipe_file(self, path: str, value: bytes) -> None: ...

    def cat_file(self, path: str) -> bytes: ...

    def put_file(self, lpath: str, rpath: str) -> None: ...

    def get_file(self, rpath: str, lpath: str) -> None: ...

    def size(self, path: str) -> int | None: ...


def _files_as_they_are(folder: Path) -> tuple[_AsItIs, ...]:
    found = []
    for name in ADAPTER_FILES:
        try:
            seen = (folder / name).lstat()
        except FileNotFoundError as error:
            raise NotFound(f"{name} is missing from {folder}.") from error
        found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
    return tuple(found)


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each adapter file in `folder`. Raises NotFound if one is missing."""
    digests: dict[str, str] = {}
    for name in ADAPTER_FILES:
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise NotFound(f"{name} is missing from {folder}.")
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def folder_digest(files: Mapping[str, str]) -> Digest:
    """The digest of a folder: SHA-256 of the canonical JSON of its files' digests."""
    canonical = json.dumps(dict(files), sort_keys=True, separators=(",", ":"))
    return Digest(hashlib.sha256(canonical.encode()).hexdigest())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
