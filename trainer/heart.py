"""The worker's signs of life: that it looks for work, or what keeps it from doing so.

Owns the words for what can be wrong with a worker. They reach strangers: they say what to do, and
hold no path and nothing that an unknown error said. Must not know what is carried out.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from core.work.workers import Workers

logger = logging.getLogger("attune.trainer")

_EVERY_S = 5.0

_DAMAGED = (
    "dbos.db in the home of the trainer is damaged, so nothing is carried out. Stop the trainer, "
    "move dbos.db, dbos.db-wal and dbos.db-shm away and start it: work under way begins again."
)
_UNUSABLE = (
    "dbos.db in the home of the trainer cannot be {what}, so nothing is carried out. See to the "
    "file's rights and the disk's room; the trainer tries again by itself."
)
_UNKNOWN = (
    "The trainer fails ({name}), so nothing is carried out. Its log says why; it tries again by "
    "itself."
)


class Heart:
    """Tells of one worker. `durable`: DBOS's own database, where that is a file."""

    def __init__(self, workers: Workers, worker_id: str, *, durable: Path | None) -> None:
        self._workers = workers
        self._worker_id = worker_id
        self._durable = durable
        self._next = 0.0
        self._told = ""

    def beat(self) -> None:
        """A look for work went well; told every few seconds."""
        now = time.monotonic()
        if now >= self._next or self._told:
            self._workers.looked(self._worker_id)
            self._next, self._told = now + _EVERY_S, ""

    def miss(self, error: BaseException) -> None:
        """A look failed. Told once for each reason; a database that does not answer is not told."""
        trouble = trouble_of(error, self._durable)
        if trouble != self._told:
            try:
                self._workers.in_trouble(self._worker_id, trouble)
                self._told = trouble
            except Exception:  # the worker's loop must go on
                logger.exception("Cannot tell of it.")

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell of an error that ends the worker, and let it."""
        try:
            yield
        except Exception as error:
            self.miss(error)
            raise


def trouble_of(error: BaseException, durable: Path | None) -> str:
    """What is wrong and what to do, for people who do not know this machine."""
    if durable is not None and durable.exists() and (told := _of_file(durable)):
        return told
    return _UNKNOWN.format(name=type(error).__name__)


def _of_file(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            sound = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        return None if sound else _DAMAGED
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorname
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return None
        return _UNUSABLE.format(what="opened" if code.startswith("SQLITE_CANTOPEN") else "written")
    except sqlite3.DatabaseError:
        return _DAMAGED
