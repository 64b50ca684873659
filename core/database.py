"""The SQL database: one engine, one metadata, one way to open a transaction.

SQLite in WAL mode on one machine, Postgres on many. Stores are synchronous; the server calls
them from worker threads, never from the token path. Every change other processes must notice
adds a row to `changes` in its own transaction, so that following the database is one cheap
`max(id)` query.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from core.clock import now_s
from core.database_trouble import Trouble
from core.drivers import allow, limited, parsed_url, postgres_engine, sqlite_engine
from core.errors import Conflict, NotFound
from core.files import disk_trouble
from core.text import fit

Noun = TypeVar("Noun")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""64-bit autoincrement key; SQLite only autoincrements a plain INTEGER."""

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("topic", sa.String(32), nullable=False),
    sa.Column("subject", sa.String(64)),  # the id of what changed; null: written by an older server
    sa.Column("at_s", sa.Float, nullable=False),
)

_LAST_CHANGE = sa.select(sa.func.max(changes.c.id))


_file_turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
"""Whose turn it is to write to a SQLite file, among all the pools of this process."""


class Database:
    """A pool of connections to one SQL database.

    Whatever trouble it is in, a transaction ends within `wait_s` of being asked for: Unavailable,
    without a word of what the database said. Raises Invalid from the constructor for a URL that is
    neither SQLite nor Postgres.
    """

    def __init__(self, url: str, *, wait_s: float = 10.0) -> None:
        parsed = parsed_url(url)
        self.url = parsed.render_as_string(hide_password=False)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite and parsed.database:
            folder = Path(parsed.database).parent
            with disk_trouble(str(folder), "The database belongs there: see ATTUNE_HOME."):
                folder.mkdir(parents=True, exist_ok=True)
        opened = sqlite_engine if self.is_sqlite else postgres_engine
        self.engine = opened(parsed, wait_s=wait_s)
        self._writing = self.engine.execution_options(attune_write=True)
        self._wait_s = wait_s
        self._turn = threading.Lock()
        self._file_turn = _file_turns.setdefault(self.url, threading.Lock())
        # Apart: who cannot write to a SQLite file in use elsewhere can read it all the same. Who
        # gets no connection can do neither.
        self._no_connection = Trouble(wait_s)
        self._read_trouble, self._write_trouble = Trouble(wait_s), Trouble(wait_s)

    @contextmanager
    def write(self, *, wait_s: float | None = None) -> Iterator[sa.Connection]:
        """One transaction, committed on leaving the block, rolled back on an exception.

        On SQLite it takes the write lock at once, so a check and the write that depends on it
        cannot interleave with another writer. Raises Unavailable for a database in trouble.
        `wait_s`: another patience than the database's own, for what may rightly take longer.
        """
        until = time.monotonic() + (wait_s or self._wait_s)
        with (
            self._write_trouble.translated(),
            self._in_turn(self._turn, until),
            self._connected(self._writing, until) as connection,
            self._in_turn(self._file_turn, until),
            self._patiently(connection, until).begin(),
        ):
            if wait_s is not None and not self.is_sqlite:
                allow(connection, wait_s)
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading a consistent snapshot; nothing is committed.

        Raises Unavailable for a database in trouble.
        """
        until = time.monotonic() + self._wait_s
        with self._read_trouble.translated(), self._connected(self.engine, until) as connection:
            yield connection

    @contextmanager
    def _in_turn(self, turn: threading.Lock, until: float) -> Iterator[None]:
        """SQLite lets one write at a time: the others wait here, without its polling, which may
        pass somebody over for seconds. First for the turn of their pool, to leave its connections
        to those who read; then one of each pool for the file's, so that no pool starves another.
        """
        if not self.is_sqlite:
            yield
            return
        if not turn.acquire(timeout=max(0.0, until - time.monotonic())):
            raise sa.exc.TimeoutError("others were writing all the while")
        try:
            yield
        finally:
            turn.release()

    @contextmanager
    def _connected(self, engine: sa.Engine, until: float) -> Iterator[sa.Connection]:
        with self._no_connection.translated():
            connection = engine.connect()
        if self.is_sqlite:
            with connection:
                yield self._patiently(connection, until)
            return
        raw, left_s = connection.connection.driver_connection, max(0.0, until - time.monotonic())
        with limited(raw, left_s), connection:  # closing it asks Postgres too
            yield connection

    def _patiently(self, connection: sa.Connection, until: float) -> sa.Connection:
        """The same, and on SQLite it waits for other processes until then."""
        if self.is_sqlite:
            raw: Any = connection.connection.driver_connection
            left_s = max(0.0, until - time.monotonic())
            raw.execute(f"PRAGMA busy_timeout={int(left_s * 1000)}")
        return connection

    def get(self, query: sa.Select[Any], noun: type[Noun], missing: NotFound) -> Noun:
        """The one row of a query as the noun it holds; raises `missing` if there is none."""
        with self.read() as connection:
            one = found(connection, query, noun)
        if one is None:
            raise missing
        return one

    def find_all(self, query: sa.Select[Any], noun: type[Noun]) -> list[Noun]:
        """The rows of a query as the nouns they hold."""
        with self.read() as connection:
            return found_all(connection, query, noun)

    def scalar(self, query: sa.Select[Any]) -> Any:
        """The first value of the first row; None if there is no row."""
        with self.read() as connection:
            return connection.scalar(query)

    def upgrade(self) -> None:
        """Bring the schema to the newest migration; does nothing when it is there already."""
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["database"] = self
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Conflict(
                "The database was written by a newer Attune than this one: update this "
                "installation, or use the database's own."
            ) from error

    def last_change(self) -> int:
        """The number of the newest change; grows with every registry change."""
        return self.scalar(_LAST_CHANGE) or 0

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def found(connection: sa.Connection, query: sa.Executable, noun: type[Noun]) -> Noun | None:
    """The one row of a statement as the noun it holds, inside the caller's transaction.

    A noun is a dataclass named after the columns; columns it does not have are passed over.
    """
    return next(iter(found_all(connection, query, noun)), None)


def found_all(connection: sa.Connection, query: sa.Executable, noun: type[Noun]) -> list[Noun]:
    """The rows of a statement as the nouns they hold, inside the caller's transaction."""
    return [msgspec.convert(row, noun) for row in connection.execute(query).mappings()]


def announce(connection: sa.Connection, topic: str, subject: str) -> None:
    """Record, inside the caller's transaction, that other processes should look again.

    `subject` is the id of what changed: followers read only that anew.
    """
    if connection.dialect.name != "sqlite":
        # Numbers are given before commits are ordered; without the lock a follower could see a
        # higher one first and never look for the lower. SQLite has one writer at a time anyway.
        connection.execute(sa.text("LOCK TABLE changes IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(changes.insert().values(topic=topic, subject=subject, at_s=now_s()))


def row_of(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    """`values` as either database takes them: text fits its column and holds no NUL, no surrogate.

    JSON is made by the database's own type and holds no NaN. So one odd value does not spoil a
    commit shared with others.
    """
    row = dict(values)
    for name, value in values.items():
        column = table.c[name].type
        if isinstance(value, str) and isinstance(column, sa.String):
            row[name] = fit(value, column.length or len(value))
    return row


def insert_ignoring_duplicates(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]
) -> None:
    """Insert `rows`, at least one, skipping those whose primary or unique key exists."""
    connection.execute(_insert_or_ignore(connection.dialect.name, table), rows)


def insert_or_replace(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """Insert `row`, or write it over the one with its primary key."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=table.primary_key, set_=row))


@functools.cache
def _insert_or_ignore(dialect: str, table: sa.Table) -> sa.Insert:
    # Kept, because building a statement takes longer than executing it, and answers wait for it.
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()
