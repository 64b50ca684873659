"""What each server last said of a version it tried to load: makes a refused load visible."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from adapters.tables import engine_reports
from core.clock import now_s
from core.database import Database, insert_or_replace, row_of


class LoadReports:
    """One report per server and version, the last one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, server_id: str, engine_id: int, state: str, detail: str = "") -> None:
        """What a server says of a version it loaded or failed to load."""
        row = {
            "server_id": server_id,
            "engine_id": engine_id,
            "state": state,
            "detail": detail[:2000],
            "at_s": now_s(),
        }
        with self._database.write() as connection:
            insert_or_replace(connection, engine_reports, row_of(engine_reports, row))

    def forget(self, server_id: str) -> None:
        """Drop what a server said before it was started anew."""
        said = engine_reports.delete().where(engine_reports.c.server_id == server_id)
        with self._database.write() as connection:
            connection.execute(said)

    def of(self, engine_ids: list[int]) -> Sequence[sa.RowMapping]:
        """The servers' last words on these versions."""
        query = sa.select(engine_reports).where(engine_reports.c.engine_id.in_(engine_ids))
        with self._database.read() as connection:
            return connection.execute(query).mappings().all()
