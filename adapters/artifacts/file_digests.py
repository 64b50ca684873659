"""SHA-256 of files that are large and seldom change, remembered over restarts.

A base model of 16 GB is read once, not at every start. What is remembered counts for exactly the
file that was read: path, inode, size, and the times of its last write and last change, of which a
program can set only the first.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from core.files import sha256_of

_SETTLED_NS = 2 * 10**9
"""A file written this lately may be written again without its times telling."""


class FileDigests:
    """Remembers in the file `path`. Safe from several threads and processes: what one of them
    forgets another has noted, it reads again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sha256(self, file: Path) -> str:
        """The file's SHA-256 in lower-case hex."""
        name, as_it_is = str(file.resolve()), _state(file)
        known = self._known().get(name)
        if isinstance(known, dict) and known.get("state") == as_it_is:
            return str(known["sha256"])
        digest = sha256_of(file)
        settled = time.time_ns() - max(as_it_is[2:]) > _SETTLED_NS
        if settled and _state(file) == as_it_is:
            self._remember(name, {"state": as_it_is, "sha256": digest})
        return digest

    def _known(self) -> dict[str, object]:
        try:
            read = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return read if isinstance(read, dict) else {}

    def _remember(self, name: str, found: dict[str, object]) -> None:
        text = json.dumps({**self._known(), name: found})
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.{id(found):x}")
        with suppress(OSError):  # not to remember is not to fail
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text)
            os.replace(partial, self._path)


def _state(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
