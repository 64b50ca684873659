"""What the pool of connections promises, on either database."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from core.database import Database, announce

ONE = sa.text("SELECT 1")


def test_every_transaction_sees_what_others_have_committed(
    database: Database, database_url: str
) -> None:
    other = Database(database_url)
    before = database.last_change()  # from here on the pool holds a connection
    with other.write() as connection:
        announce(connection, "test", "x")
    assert database.last_change() > before
    other.dispose()


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            announce(connection, "test", "x")
            raise ZeroDivisionError

    before = database.last_change()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.last_change() == before
    with database.write() as connection:
        announce(connection, "test", "x")
    assert database.last_change() > before


def test_a_connection_that_was_lost_in_use_is_replaced(database: Database) -> None:
    with database.read() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.close()
        with pytest.raises(SQLAlchemyError):
            connection.execute(ONE)
    with database.read() as connection:
        assert connection.connection.driver_connection is not raw
        assert connection.scalar(ONE) == 1


def test_connections_lost_while_nobody_used_them_are_replaced_unnoticed(postgres_url: str) -> None:
    """As a Postgres that restarts loses them; SQLite has no server that could."""
    database, other = Database(postgres_url), Database(postgres_url)
    with database.read() as connection:
        lost = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    with other.write() as connection:
        assert connection.scalar(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": lost})
    with suppress(KeyError), database.write() as connection:
        announce(connection, "test", "x")
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) != lost
        raise KeyError  # the next test finds nothing
    database.dispose()
    other.dispose()


def test_many_who_write_through_one_pool_keep_none_of_another_waiting(sqlite: Database) -> None:
    other, done = Database(sqlite.url), threading.Event()
    written = [0] * 8

    def write_on(number: int) -> None:
        while not done.is_set():
            with sqlite.write() as connection:
                announce(connection, "busy", str(number))
            written[number] += 1

    busy = [threading.Thread(target=write_on, args=(number,)) for number in range(len(written))]
    for thread in busy:
        thread.start()
    try:
        passed_by = 0
        for number in range(40):
            while sum(written) < 50 * number + 1:
                time.sleep(0.001)
            before = sum(written)
            with other.write() as connection:
                announce(connection, "own", "x")
            passed_by += sum(written) - before
        assert passed_by < 40 * 10
    finally:
        done.set()
        for thread in busy:
            thread.join()
        other.dispose()
