"""An export appears complete or not at all: a locked folder beside its place, then one rename.

Owns the staging folder, what is left of a killed run, and the words for a full disk. Must not
know what is exported.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import Conflict, Unavailable
from deploy.edge.manifest import sync_folder

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def staged(out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (folder, scratch); after the block `folder` is `out`, and `scratch` is gone.

    If the block raises, nothing remains. What a killed run left beside `out` is removed first.
    Raises Conflict when `out` exists and is not empty, or another export to it is running, and
    Unavailable (code `disk_full`) when the disk takes no more.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise Conflict(
                f"{out} exists already; choose another folder or remove it.", param="out"
            )
        work = out.parent / f".{out.name}.partial"
        with _locked(work):
            try:
                folder, scratch = work / "export", work / "scratch"
                folder.mkdir()
                scratch.mkdir()
                yield folder, scratch
                _sync_tree(folder)
                os.rename(folder, out)
                sync_folder(out.parent)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(str(error)) from error
        raise Unavailable(
            f"The export could not be written to {out}: {error}", code="write_failed"
        ) from error


def disk_full(detail: str) -> Unavailable:
    """The one error for a disk that takes no more."""
    return Unavailable(
        f"The disk has no room for the export ({detail[:200]}); free some and export again.",
        code="disk_full",
    )


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Hold `work`, new and empty. The kernel lets go of it when the process ends, however."""
    while True:
        work.mkdir(exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Conflict(f"Another export to {work.parent} is running there.") from error
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


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
