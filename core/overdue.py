"""Ends what waits for a Postgres that neither answers nor hangs up: a frozen host, a lost route.

Postgres' own limits are kept by Postgres; here the socket is shut when the time is up, so that
the thread that waits goes on with an error. Knows nothing of SQL.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol


class Wire(Protocol):
    """A connection of the driver's."""

    @property
    def closed(self) -> bool:
        """Whether there is no socket any more."""
        ...

    def fileno(self) -> int:
        """The socket."""
        ...


class Overdue:
    """One thread that watches connections in use; it starts with the first of them."""

    def __init__(self) -> None:
        self._watched: dict[object, tuple[float, Wire]] = {}
        self._changed = threading.Condition()
        self._soonest = math.inf
        self._thread: threading.Thread | None = None

    @contextmanager
    def ended_after(self, left_s: float, wire: Wire) -> Iterator[None]:
        """Shut the wire if the block lasts longer than that."""
        at, this = time.monotonic() + left_s, object()
        with self._changed:
            self._watched[this] = (at, wire)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="attune-overdue", daemon=True
                )
                self._thread.start()
            elif at < self._soonest:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.pop(this, None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for this, (at, wire) in list(self._watched.items()):
                    if at <= now:
                        del self._watched[this]
                        _shut(wire)
                self._soonest = min((at for at, _ in self._watched.values()), default=math.inf)
                left_s = self._soonest - time.monotonic()
                self._changed.wait(None if math.isinf(left_s) else max(0.0, left_s))


def _shut(wire: Wire) -> None:
    if not wire.closed:
        # A copy, so that the descriptor itself stays the driver's to close.
        with suppress(OSError), socket.socket(fileno=os.dup(wire.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
