"""The log of answers as the token path needs it: one thread, commit after commit, each as quick as
the disk lets it.

On SQLite the statements go straight to the driver: SQLAlchemy's bookkeeping takes as long as the
commit itself, and every answer waits for it. What is stored is the same (a contract test).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from core.database import Database
from core.held import HeldConnection
from core.jsontext import json_text
from feedback.interactions import append_in
from feedback.rows import interaction_row
from feedback.tables import feedback_targets, interactions
from feedback.types import Interaction

_COLUMNS = tuple((c.name, isinstance(c.type, sa.JSON)) for c in interactions.c if c.name != "seq")
_INSERT = (
    f"INSERT INTO {interactions.name} ({', '.join(name for name, _ in _COLUMNS)}) "
    f"VALUES ({', '.join('?' for _ in _COLUMNS)}) ON CONFLICT DO NOTHING"
)
_AWAITED = (
    f"SELECT 1 FROM {feedback_targets.name} "
    "WHERE adapter_id IS NULL AND completion_id IN (SELECT value FROM json_each(?)) LIMIT 1"
)


class InteractionLog:
    """`InteractionStore.append` for one thread that commits answer after answer, and
    `append_at_once` for another."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._quick = database.is_sqlite
        self._at_once: sqlite3.Connection | None = None
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

    def append_at_once(self, interaction: Interaction) -> bool:
        """Append one interaction if that takes no longer than the disk does: True once it is
        durable. False if anything is in the way (`append` then says what); never raises."""
        if not self._quick:
            return False  # a server across a network
        try:
            if self._at_once is None:
                self._at_once = self._database.impatient()
            return self._append(self._at_once, [interaction])
        except Exception:  # an answer can be to blame as well, and it must not keep the lock
            self._forget()
            return False

    def close(self) -> None:
        """Give the connections back."""
        self._held.close()
        self._forget()

    def _forget(self) -> None:
        connection, self._at_once = self._at_once, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()  # rolls back

    def _append(self, driver: sqlite3.Connection, batch: Sequence[Interaction]) -> bool:
        """Whether that was all: feedback that waits for one of the answers needs more."""
        rows = [_values(interaction_row(interaction)) for interaction in batch]
        learnable = [it.id for it in batch if it.adapter_id is not None]
        if len(rows) == 1 and not learnable:
            driver.execute(_INSERT, rows[0])  # a transaction of its own
            return True
        driver.execute("BEGIN IMMEDIATE")
        if learnable and driver.execute(_AWAITED, (json.dumps(learnable),)).fetchone():
            driver.execute("ROLLBACK")
            return False
        driver.executemany(_INSERT, rows)
        driver.execute("COMMIT")
        return True


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    # JSON columns as sqlalchemy.JSON reads them: None is stored as null.
    return tuple([json_text(row[name]) if is_json else row[name] for name, is_json in _COLUMNS])
