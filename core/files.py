"""Files that last: what appears whole or not at all, what is locked, what a full disk means.

Owns the order of steps that survives a kill or a power cut, digests of files, and the words for a
disk in trouble. Standard library only: devices use it too. Must not know what the files hold.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from core.errors import Conflict, Unavailable
from core.places import reason_of

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in lower-case hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(files: Mapping[str, str]) -> str:
    """The digest of several files: SHA-256 of the canonical JSON object of path -> SHA-256."""
    text = json.dumps(dict(files), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of the file, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(new: Path, target: Path) -> None:
    """Move `new`, synced already, to `target` on the same disk by one rename that lasts.

    A file at `target` is replaced; a folder there raises OSError unless it is empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(new, target)
    sync(target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a file that is the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        put(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def appearing(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder that becomes `out` when the block ends well; else nothing of it remains.

    The new folder's parent is scratch space of its own and goes away too; what a killed process
    left there is removed first. With `replace` an older `out` makes room, without it Conflict is
    raised if `out` is there and not empty, and always if another process is at work on it.
    """
    if not replace and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} exists already; choose another folder or remove it.", param="out")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = out.parent / f".{out.name}.partial"
    with _emptied(work):
        try:
            folder = work / "whole"
            folder.mkdir()
            yield folder
            for path in [*folder.rglob("*"), folder]:
                sync(path)
            if replace and out.exists():
                shutil.rmtree(out)
            put(folder, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _emptied(work: Path) -> Iterator[None]:
    """Hold `work`, new and empty. The kernel lets go of it when the process ends, however."""
    while True:
        work.mkdir(exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Conflict(f"Another process is writing in {work.parent}; wait for it.") from error
        # Whoever held it before has removed it on leaving: then this is another folder.
        if work.is_dir() and os.path.samestat(os.fstat(descriptor), work.stat()):
            break
        os.close(descriptor)
    try:
        for left in work.iterdir():
            shutil.rmtree(left)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, busy: str, *, code: str) -> Iterator[None]:
    """Hold the lock file `path` while the block or this process lives.

    Raises Conflict, saying `busy`, if another has it.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(busy, code=code) from error
        yield


@contextmanager
def disk_trouble(where: str, then: str) -> Iterator[None]:
    """OSErrors of the block as Unavailable: what is wrong with `where`, and what to do `then`.

    The code is `disk_full` where the disk takes no more, else `store_unavailable`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable(
                f"The disk of {where} is full: free some space. {then}", code="disk_full"
            ) from error
        reason = reason_of(error)
        raise Unavailable(
            f"No access to {where}: {reason}. {then}", code="store_unavailable"
        ) from error
