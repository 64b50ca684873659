"""The log of answers as the token path needs it: one thread, commit after commit, each as quick as
the disk lets it.

On SQLite the statements go straight to the driver: SQLAlchemy's bookkeeping takes as long as the
commit itself, and every answer waits for it. What is stored is the same (a contract test).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from core.database import Database
from core.held import HeldConnection
from feedback.interactions import append_in
from feedback.rows import interaction_row
from feedback.tables import feedback_targets, interactions
from feedback.types import Interaction

_COLUMNS = tuple(column for column in interactions.c if column.name != "seq")
_INSERT = (
    f"INSERT INTO {interactions.name} ({', '.join(column.name for column in _COLUMNS)}) "
    f"VALUES ({', '.join('?' for _ in _COLUMNS)}) ON CONFLICT DO NOTHING"
)
_AWAITED = (
    f"SELECT 1 FROM {feedback_targets.name} "
    "WHERE adapter_id IS NULL AND completion_id IN (SELECT value FROM json_each(?)) LIMIT 1"
)


class InteractionLog:
    """`InteractionStore.append` for one thread that commits answer after answer."""

    def __init__(self, database: Database) -> None:
        self._quick = database.is_sqlite
        self._held = HeldConnection(database, writes=True)

    def append(self, batch: Sequence[Interaction]) -> None:
        """See `InteractionStore.append`; raises what SQLAlchemy would raise."""
        if not batch:
            return
        if not self._quick:
            with self._held.transaction() as connection:
                append_in(connection, batch)
            return
        try:
            with self._held.driver() as driver:
                if self._append(driver, batch):
                    return
        except sqlite3.OperationalError as error:
            raise OperationalError(_INSERT, None, error) from error
        except sqlite3.IntegrityError as error:
            raise IntegrityError(_INSERT, None, error) from error
        with self._held.transaction() as connection:
            append_in(connection, batch)

    def close(self) -> None:
        """Give the connection back."""
        self._held.close()

    def _append(self, driver: sqlite3.Connection, batch: Sequence[Interaction]) -> bool:
        """Whether that was all: feedback that waits for one of the answers needs more."""
        rows = [_values(interaction_row(interaction)) for interaction in batch]
        driver.execute("BEGIN IMMEDIATE")
        learnable = [it.id for it in batch if it.adapter_id is not None]
        if learnable and driver.execute(_AWAITED, (json.dumps(learnable),)).fetchone():
            driver.execute("ROLLBACK")
            return False
        driver.executemany(_INSERT, rows)
        driver.execute("COMMIT")
        return True


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    # Values of JSON columns as sqlalchemy.JSON writes them, None as null included.
    return tuple(
        json.dumps(row[column.name]) if isinstance(column.type, sa.JSON) else row[column.name]
        for column in _COLUMNS
    )
