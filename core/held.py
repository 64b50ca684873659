"""A database connection kept open for one caller that comes back often.

Taking a connection from the pool and handing it back costs more than a small commit does.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from core.database import Database


class HeldConnection:
    """One connection, opened at first use and opened anew after an error.

    Callers from several threads wait for one another.
    """

    def __init__(self, database: Database, *, writes: bool = False) -> None:
        self._database = database
        self._writes = writes
        self._connection: sa.Connection | None = None
        self._turn = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction, committed on leaving the block, rolled back on an exception.

        Raises what the database raises; the next call then begins on a fresh connection.
        """
        with self._turn:
            connection = self._open()
            try:
                with connection.begin():
                    yield connection
            except BaseException:
                self._drop()
                raise

    @contextmanager
    def driver(self) -> Iterator[sqlite3.Connection]:
        """SQLite only: the driver's own connection, for a caller that begins and commits itself.

        On an exception the connection is dropped and with it whatever was begun.
        """
        with self._turn:
            driver = self._open().connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            try:
                yield driver
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # what broke it may break this as well
                    if driver.in_transaction:
                        driver.rollback()
                self._drop()
                raise

    def close(self) -> None:
        """Give the connection back; a later call opens another."""
        with self._turn:
            self._drop()

    def _open(self) -> sa.Connection:
        if self._connection is None:
            connection = self._database.engine.connect()
            self._connection = connection.execution_options(attune_write=self._writes)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()
