"""How far work has looked at feedback: what the next run must not take for news."""

from __future__ import annotations

import sqlalchemy as sa

from core.database import Database
from core.ids import AdapterId
from core.work.tables import work


class Watermarks:
    """Watermarks of adapters, over all their work. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[AdapterId, int]:
        """The feedback number up to which each adapter's work has looked; none before the first."""
        query = (
            sa.select(work.c.adapter_id, sa.func.max(work.c.last_feedback_seq))
            .where(work.c.adapter_id.is_not(None), work.c.last_feedback_seq.is_not(None))
            .group_by(work.c.adapter_id)
        )
        with self._database.read() as connection:
            return {AdapterId(row[0]): int(row[1]) for row in connection.execute(query)}

    def newest_feedback_at_s(self, work_id: str) -> float | None:
        """When the newest feedback that this piece of work knows of was given."""
        query = sa.select(work.c.last_feedback_at_s).where(work.c.id == work_id)
        at_s: float | None = self._database.scalar(query)
        return at_s
