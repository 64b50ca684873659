"""A connection that is kept open, and how a commit is noticed without asking."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from core.database import Database, announce, last_change
from core.held import HeldConnection


def test_every_transaction_sees_what_others_have_committed(database: Database) -> None:
    held = HeldConnection(database)
    with held.transaction() as connection:
        before = last_change(connection)
    with database.write() as connection:
        announce(connection, "test", "x")
    with held.transaction() as connection:
        assert last_change(connection) > before
    held.close()


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    held = HeldConnection(database, writes=True)
    before = database.last_change()
    with contextlib.suppress(ZeroDivisionError), held.transaction() as connection:
        announce(connection, "test", "x")
        raise ZeroDivisionError
    assert database.last_change() == before
    with held.transaction() as connection:
        announce(connection, "test", "x")
    assert database.last_change() > before
    held.close()


def test_a_connection_that_was_lost_is_replaced(database: Database) -> None:
    held = HeldConnection(database)
    with held.transaction() as connection:
        raw = connection.connection.driver_connection
    assert raw is not None
    raw.close()  # as a database that restarts does
    with pytest.raises(SQLAlchemyError), held.transaction() as connection:
        connection.execute(sa.text("SELECT 1"))
    with held.transaction() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    held.close()


def test_a_driver_that_cannot_even_roll_back_is_replaced(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/attune.db")
    held = HeldConnection(database, writes=True)
    with contextlib.suppress(sqlite3.Error), held.driver() as driver:
        driver.execute("BEGIN IMMEDIATE")
        driver.close()
        driver.execute("COMMIT")
    with held.driver() as driver:
        assert driver.execute("SELECT 1").fetchone() == (1,)
    held.close()
    database.dispose()


def test_the_stamp_differs_after_a_commit_of_another_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/attune.db"
    mine, another = Database(url), Database(url)
    mine.upgrade()
    assert mine.last_change() == 0  # opens the database
    before = mine.stamp()
    assert mine.stamp() == before
    with another.write() as connection:
        announce(connection, "test", "x")
    assert mine.stamp() != before
    mine.dispose()
    another.dispose()
