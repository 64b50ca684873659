"""What workers say of themselves: when each last looked for work, and what keeps it from doing so.

One row a worker, written over. The server tells of it, so a trouble is a sentence for strangers:
it says what to do and holds no path, no SQL and nothing of a tenant's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from core.clock import now_s
from core.database import Database, insert_or_replace, row_of
from core.work.tables import workers

FRESH_S = 30.0
"""A worker that has not looked for longer is not at work; it looks several times a second."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker's row."""

    id: str
    looked_at_s: float | None  # its last good look
    trouble: str | None  # since then
    told_at_s: float  # when the row was written


class Workers:
    """The workers of one installation. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def looked(self, worker_id: str) -> None:
        """It has just looked for work, and nothing is in its way."""
        now = now_s()
        self._put(id=worker_id, looked_at_s=now, trouble=None, told_at_s=now)

    def in_trouble(self, worker_id: str, trouble: str) -> None:
        """It cannot work, and why."""
        self._put(id=worker_id, trouble=trouble, told_at_s=now_s())

    def all(self) -> Sequence[Worker]:
        """Those that have ever told, the latest first."""
        query = sa.select(workers).order_by(workers.c.told_at_s.desc(), workers.c.id)
        return self._database.find_all(query, Worker)

    def _put(self, **values: object) -> None:
        with self._database.write() as connection:
            insert_or_replace(connection, workers, row_of(workers, values))
