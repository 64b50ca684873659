"""What each server last said of a version it tried to load: makes a refused load visible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from adapters import tables
from core.clock import now_s
from core.database import Database
from core.text import storable


class LoadReports:
    """One report per server and version, the last one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, server_id: str, engine_id: int, state: str, detail: str = "") -> None:
        """What a server says of a version it loaded or failed to load."""
        table = tables.engine_reports
        with self._database.write() as connection:
            connection.execute(
                table.delete().where(table.c.server_id == server_id, table.c.engine_id == engine_id)
            )
            connection.execute(
                table.insert().values(
                    server_id=server_id,
                    engine_id=engine_id,
                    state=state,
                    detail=storable(detail[:2000]),
                    at_s=now_s(),
                )
            )

    def forget(self, server_id: str) -> None:
        """Drop what a server said before it was started anew."""
        table = tables.engine_reports
        with self._database.write() as connection:
            connection.execute(table.delete().where(table.c.server_id == server_id))

    def of(self, engine_ids: list[int]) -> list[Mapping[str, Any]]:
        """The servers' last words on these versions."""
        query = sa.select(tables.engine_reports).where(
            tables.engine_reports.c.engine_id.in_(engine_ids)
        )
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]
