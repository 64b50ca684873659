"""How far work has looked at feedback: what the next run must not take for news."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from core.database import Database
from core.ids import AdapterId
from core.queries import each
from core.work.tables import work


class Watermarks:
    """Watermarks of adapters, over all their work. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, adapter_ids: Iterable[AdapterId]) -> dict[AdapterId, int]:
        """The feedback number up to which each adapter's work has looked; 0 before the first."""
        asked = each(self._database, dict.fromkeys(adapter_ids, 0))
        looked = sa.func.max(work.c.last_feedback_seq)
        mark = sa.select(looked).where(work.c.adapter_id == asked.c.key).scalar_subquery()
        with self._database.read() as connection:
            found = connection.execute(sa.select(asked.c.key, mark))
            return {AdapterId(row[0]): int(row[1] or 0) for row in found}

    def newest_feedback_at_s(self, work_id: str) -> float | None:
        """When the newest feedback that this piece of work knows of was given."""
        query = sa.select(work.c.last_feedback_at_s).where(work.c.id == work_id)
        at_s: float | None = self._database.scalar(query)
        return at_s
