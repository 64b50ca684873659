"""The two databases' drivers: their URLs, what a new connection is set to, how long each waits.

Knows no table and no transaction; `core.database` is what everybody opens.
"""

from __future__ import annotations

import functools
import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from core.errors import Invalid
from core.overdue import Overdue
from core.text import json_text, json_value

_overdue = Overdue()

_LIMITS = "SELECT set_config('statement_timeout', {0}, {2}), set_config('lock_timeout', {1}, {2})"


def parsed_url(url: str) -> sa.URL:
    """The URL with its driver. Raises Invalid for one that is neither SQLite's nor Postgres's."""
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            url = "postgresql+psycopg://" + url.removeprefix(plain)
    # Only the scheme is told: the rest may hold a password.
    told = f"ATTUNE_DATABASE_URL ({url.partition(':')[0][:20]}:…)"
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise Invalid(
            f"{told} is not supported: use sqlite:///path or postgresql://…", param="database_url"
        )
    try:
        return sa.make_url(url)
    except (ValueError, sa.exc.ArgumentError):
        raise Invalid(
            f"{told} cannot be read: is the port a number, are ':', '/' and '@' in the password "
            "percent-encoded?",
            param="database_url",
        ) from None  # the cause would tell the password


def sqlite_engine(url: sa.URL, *, wait_s: float) -> sa.Engine:
    """A pool for a SQLite file; a transaction that has the option `attune_write` begins as one."""
    part_s = wait_s / 3
    engine = _engine(
        url, poolclass=sa.QueuePool, pool_timeout=part_s, connect_args={"timeout": part_s}
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def postgres_engine(url: sa.URL, *, wait_s: float) -> sa.Engine:
    """A pool for Postgres. No step of getting a connection, and no statement, takes long enough
    for all of them to take more than about `wait_s`."""
    part_s = wait_s / 3
    engine = _engine(
        url,
        pool_pre_ping=True,
        pool_size=8,
        pool_timeout=part_s,
        # A host that vanishes must not hold answers for TCP's quarter of an hour.
        connect_args={
            "connect_timeout": max(2, int(part_s)),  # libpq takes no less
            "tcp_user_timeout": int(part_s * 1000),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    event.listen(engine, "connect", functools.partial(_configure_postgres, part_s * 2))
    ping = engine.dialect.do_ping

    def ping_in_time(connection: Any) -> bool:
        with limited(connection, part_s):
            return ping(connection)

    setattr(engine.dialect, "do_ping", ping_in_time)  # noqa: B010  (a method, to mypy)
    return engine


def limited(connection: Any, left_s: float) -> Any:
    """A context manager: ends with an error of the driver's what lasts longer in the block."""
    return _overdue.ended_after(left_s, connection)


def allow(connection: sa.Connection, limit_s: float) -> None:
    """Let the statements of this transaction on Postgres take that long, not the usual time."""
    statement, lock = _limits_ms(limit_s)
    limits = sa.text(_LIMITS.format(":statement", ":lock", "true"))
    connection.execute(limits, {"statement": statement, "lock": lock})


def _engine(url: sa.URL, **options: Any) -> sa.Engine:
    # hide_parameters: errors are logged, and statements carry what tenants wrote.
    return sa.create_engine(
        url,
        hide_parameters=True,
        json_serializer=json_text,
        json_deserializer=json_value,
        **options,
    )


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # pysqlite's own transaction control would begin too late for BEGIN IMMEDIATE below.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: a commit survives power loss as well as kill -9; group commit pays for it once.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("attune_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _configure_postgres(limit_s: float, connection: Any, _record: Any) -> None:
    connection.execute(_LIMITS.format("%s", "%s", "false"), _limits_ms(limit_s))
    # Every query has its index. Statistics that are old, or not there yet, must not lead to
    # another way; where there is no index, as for a whole table, Postgres does it all the same.
    for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
        connection.execute(f"SET enable_{way} = off")
    connection.commit()


def _limits_ms(limit_s: float) -> tuple[str, str]:
    # A statement that waits for a lock shall say so, not that it took too long.
    return f"{limit_s * 1000:.0f}", f"{limit_s * 900:.0f}"
