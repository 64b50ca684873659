"""Content-addressed files: adapter folders, dataset snapshots and exports, written by rename.

The store is a folder by default or any fsspec URL. Engines read local folders only, so a remote
artifact is fetched into a local cache and its digest is checked before anyone may use it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from adapters.artifacts.digest import ADAPTER_FILES, adapter_digest
from core import files
from core.errors import NotFound, Unavailable
from core.ids import Digest, parse_digest

_SETTLED_NS = 2 * 10**9
_MAX_REMEMBERED = 10_000

_AsItIs = tuple[int, int, int, int]
"""A file's inode, size, and times of its last write and change (ns)."""


def _reachable() -> AbstractContextManager[None]:
    """Disk and network trouble, in the one kind that callers and servers know how to bear."""
    then = "Check the disk or the network, then try again."
    return files.disk_trouble("the artifact store", then)


class Remote:
    """The files below `url`, each under a key such as `blobs/ab/abcd…`. OSErrors pass through."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def upload(self, source: Path, key: str) -> None:
        """Copy a local file there, in pieces."""
        self._filesystem().put_file(str(source), f"{self.url}/{key}")

    def download(self, key: str, target: Path) -> None:
        """Copy a file from there, in pieces. Raises NotFound if there is none."""
        try:
            self._filesystem().get_file(f"{self.url}/{key}", str(target))
        except FileNotFoundError as error:
            raise NotFound(f"{key} is missing from the artifact store.") from error

    def has(self, key: str, size_bytes: int) -> bool:
        """Whether a file of that size is there."""
        try:
            return bool(self._filesystem().size(f"{self.url}/{key}") == size_bytes)
        except FileNotFoundError:
            return False

    def _filesystem(self) -> Any:
        import fsspec

        return fsspec.core.url_to_fs(self.url)[0]


class ArtifactStore:
    """Folders and blobs by the SHA-256 of their content; immutable once written."""

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        remote = "://" in url and not url.startswith("file://")
        self._remote = Remote(url) if remote else None
        local = (cache or Path(".attune/cache")) if remote else Path(url.removeprefix("file://"))
        self._root = local.resolve()
        self._sound: dict[str, tuple[_AsItIs, ...]] = {}

    def put_folder(self, source: Path) -> Digest:
        """Store the two files of an adapter folder; storing the same content again is free."""
        with _reachable():
            digest = adapter_digest(source)
            target = self._root / _folder_key(digest)
            if not target.is_dir():
                with self.staging() as staged:
                    for name in ADAPTER_FILES:
                        shutil.copyfile(source / name, staged / name)
                    self._publish(staged, target)
            if self._remote is not None:
                for name in ADAPTER_FILES:
                    self._remote.upload(target / name, _folder_key(digest) + f"/{name}")
            return digest

    def folder(self, digest: Digest) -> Path:
        """The local, absolute folder of an adapter, fetched and verified if it is remote.

        Raises NotFound if the store lacks it, Unavailable if its content is not its digest.
        """
        target = self._root / _folder_key(parse_digest(digest))
        with _reachable():
            if target.is_dir():
                return target
            if self._remote is None:
                raise NotFound(f"Artifact {digest} is missing from the artifact store.")
            with self.staging() as staged:
                for name in ADAPTER_FILES:
                    self._remote.download(_folder_key(digest) + f"/{name}", staged / name)
                if adapter_digest(staged) != digest:
                    raise Unavailable(f"Artifact {digest} arrived damaged from the artifact store.")
                self._publish(staged, target)
        return target

    def check(self, digest: Digest) -> Path:
        """`folder`, after reading every byte and comparing it with the digest.

        Content is read once per process and again when the file system says that a file is not
        the one read then. Raises NotFound or Unavailable; nothing that fails here may reach the
        engine.
        """
        target = self.folder(digest)
        with _reachable():
            if self._is_sound(
                digest, [target / name for name in ADAPTER_FILES], lambda: adapter_digest(target)
            ):
                return target
        raise Unavailable(
            f"Artifact {digest} is damaged: its content no longer matches its digest. Restore "
            f"{_folder_key(digest)} in the artifact store from a backup, or roll the adapter back."
        )

    def put_bytes(self, content: bytes) -> Digest:
        """Store a blob (a dataset snapshot)."""
        digest = Digest(hashlib.sha256(content).hexdigest())
        self._put_blob(digest, lambda staged: staged.write_bytes(content))
        return digest

    def put_file(self, source: Path) -> Digest:
        """Store a file of any size as a blob, in pieces; a damaged one is replaced."""
        with _reachable():
            digest = Digest(files.sha256_of(source))
        self._put_blob(digest, lambda staged: shutil.copyfile(source, staged))
        return digest

    def read_bytes(self, digest: Digest) -> bytes:
        """A blob's content. Raises NotFound or Unavailable (damaged)."""
        path = self.file(digest)
        with _reachable():
            return path.read_bytes()

    def file(self, digest: Digest) -> Path:
        """The local path of a blob, fetched in pieces if it is remote, its content checked.

        Content is read once per process and again when the file has changed. The file must not
        be written to. Raises NotFound if the store lacks it, Unavailable if it is damaged.
        """
        target = self._root / _blob_key(parse_digest(digest))
        with _reachable():
            if self._is_sound_blob(target, digest):
                return target
            if self._remote is None:
                if not target.is_file():
                    raise NotFound(f"Blob {digest} is missing from the artifact store.")
                raise Unavailable(
                    f"Blob {digest[:12]}… is damaged: its content no longer matches its digest. "
                    "Restore it from a backup, or have it made again."
                )
            with self.staging() as staged:
                self._remote.download(_blob_key(digest), staged / "blob")
                if files.sha256_of(staged / "blob") != digest:
                    raise Unavailable(f"Blob {digest} arrived damaged from the artifact store.")
                files.put(staged / "blob", target)
        return target

    def has_file(self, digest: Digest, size_bytes: int) -> bool:
        """Whether `file` can be expected to work: a local blob is read, a remote one looked up."""
        with _reachable():
            if self._is_sound_blob(self._root / _blob_key(parse_digest(digest)), digest):
                return True
            return self._remote is not None and self._remote.has(_blob_key(digest), size_bytes)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder on the store's own disk, gone afterwards unless renamed away."""
        (self._root / "staging").mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=self._root / "staging"))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _put_blob(self, digest: Digest, write: Callable[[Path], object]) -> None:
        target = self._root / _blob_key(digest)
        with _reachable():
            if not self._is_sound_blob(target, digest):
                with self.staging() as staged:
                    write(staged / "blob")
                    if files.sha256_of(staged / "blob") != digest:
                        raise Unavailable("A file changed while it was being stored; try again.")
                    files.sync(staged / "blob")
                    files.put(staged / "blob", target)
            if self._remote is not None:
                self._remote.upload(target, _blob_key(digest))

    def _is_sound_blob(self, path: Path, digest: str) -> bool:
        return self._is_sound(digest, [path], lambda: files.sha256_of(path))

    def _is_sound(self, digest: str, paths: Sequence[Path], read: Callable[[], str]) -> bool:
        """Whether the content is the digest's; read again only where a file is not as it was."""
        if not all(path.is_file() for path in paths):
            return False
        states = [path.lstat() for path in paths]
        seen = tuple((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states)
        if self._sound.get(digest) == seen:
            return True
        if read() != digest:
            return False
        # What was written this very moment may be written again without another time stamp.
        if max(at_ns for *_, at_ns in seen) < time.time_ns() - _SETTLED_NS:
            if len(self._sound) >= _MAX_REMEMBERED:
                self._sound.pop(next(iter(self._sound)), None)
            self._sound[digest] = seen
        return True

    def _publish(self, staged: Path, target: Path) -> None:
        staged.chmod(0o755)
        for path in [*staged.iterdir(), staged]:
            files.sync(path)
        try:
            files.put(staged, target)
        except OSError:
            # Somebody stored the same content at the same moment: theirs is as good.
            if not target.is_dir():
                raise


def _folder_key(digest: str) -> str:
    return f"adapters/{digest[:2]}/{digest}"


def _blob_key(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"
