"""What the workers say of adapters, to the API process: a file that all of vLLM's processes share.

Owns the file's form, a line a fact, and who may write it; knows neither vLLM nor torch. A fact is
there before the tokens of its step are, because the worker writes it within the step.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from contextlib import suppress
from pathlib import Path

PATH_VARIABLE = "ATTUNE_BOUNDS_LOG"
"""Names the file to every process that vLLM starts."""

_LARGE, _SATURATED = "large", "saturated"


def prepare() -> None:
    """Make the file, unless a process above this one has; it goes when this process ends."""
    if PATH_VARIABLE not in os.environ:
        handle, path = tempfile.mkstemp(prefix="attune-bounds-")
        os.close(handle)
        os.environ[PATH_VARIABLE] = path
        atexit.register(_remove, path)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


class BoundsLog:
    """The facts of one server; each process appends to them and sees those of all others."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises KeyError if `prepare` was called nowhere above."""
        self._file = os.open(
            path or os.environ[PATH_VARIABLE], os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600
        )
        self._read_bytes = 0
        self._facts: dict[str, set[int]] = {_LARGE: set(), _SATURATED: set()}

    def note_large(self, engine_id: int) -> None:
        """This adapter's weights could lead out of the bounds: it is watched."""
        self._note(_LARGE, engine_id)

    def note_saturated(self, engine_id: int) -> None:
        """This adapter has left the bounds in some row."""
        self._note(_SATURATED, engine_id)

    def is_large(self, engine_id: int) -> bool:
        """Whether any worker has called it large."""
        return engine_id in self._read()[_LARGE]

    def has_saturated(self, engine_id: int) -> bool:
        """Whether it has left the bounds in any worker since the server started."""
        return engine_id in self._read()[_SATURATED]

    def _note(self, fact: str, engine_id: int) -> None:
        if engine_id not in self._read()[fact]:
            os.write(self._file, f"{fact} {engine_id}\n".encode())  # O_APPEND: whole or not at all

    def _read(self) -> dict[str, set[int]]:
        size = os.fstat(self._file).st_size
        if size > self._read_bytes:
            news = os.pread(self._file, size - self._read_bytes, self._read_bytes)
            # A write under way shows in parts where it crosses a page: its line is read when it is
            # whole, which it is once the write has returned.
            whole = news[: news.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            for line in whole.decode().splitlines():
                fact, _, number = line.partition(" ")
                self._facts[fact].add(int(number))
        return self._facts
