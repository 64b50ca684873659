"""Databases in trouble: real files and a real Postgres that are locked, full, away or damaged.

A server has more than one pool of connections to its database: each of these takes all of them.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from core.database import Database, metadata


def _path(database: Database) -> Path:
    return Path(sa.make_url(database.url).database or "")


def _dispose(databases: Iterable[Database]) -> None:
    for database in databases:
        database.dispose()


@contextmanager
def locked(database: Database, *others: Database) -> Iterator[None]:
    """Somebody else writes all the while."""
    if not database.is_sqlite:
        with tables_locked(database, *others):
            yield
        return
    other = sqlite3.connect(_path(database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def tables_locked(database: Database, *others: Database) -> Iterator[None]:
    """Somebody alters every table of a Postgres, and does not come to an end."""
    other = Database(database.url)
    names = ", ".join(table.name for table in metadata.sorted_tables)
    with other.engine.begin() as connection:
        connection.execute(sa.text(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"))
        yield
    other.dispose()


@contextmanager
def locked_for_readers_too(database: Database, *others: Database) -> Iterator[None]:
    """Another program has a SQLite file to itself."""
    other = sqlite3.connect(_path(database), isolation_level=None, timeout=0.05)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    until = time.monotonic() + 10
    while not other.in_transaction:
        _dispose([database, *others])  # who follows the database comes back between two tries
        try:
            other.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            assert time.monotonic() < until
    try:
        yield
    finally:
        other.close()


@contextmanager
def full(database: Database, *others: Database) -> Iterator[None]:
    """No file of this process grows any more."""
    with suppress(sqlite3.Error), database.write() as connection:
        connection.execute(sa.text("CREATE TABLE filler AS SELECT zeroblob(100000) AS content"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(database: Database, *others: Database) -> Iterator[None]:
    """Nothing may be written, as after a disk error, or on a standby."""

    def forbid(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    if database.is_sqlite:
        for one in (database, *others):
            sa.event.listen(one.engine, "connect", forbid)
        _dispose([database, *others])
        try:
            yield
        finally:
            for one in (database, *others):
                sa.event.remove(one.engine, "connect", forbid)
            _dispose([database, *others])
        return
    name = sa.make_url(database.url).database
    other = Database(database.url)
    setting = "default_transaction_read_only"
    with other.write() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} SET {setting} = on"))
    _dispose([database, *others])  # it counts for new connections
    try:
        yield
    finally:
        with other.write() as connection:
            connection.execute(sa.text("SET TRANSACTION READ WRITE"))
            connection.execute(sa.text(f"ALTER DATABASE {name} RESET {setting}"))
        _dispose([other, database, *others])


@contextmanager
def _replaced(databases: Sequence[Database], make: Callable[[Path], object]) -> Iterator[None]:
    path = _path(databases[0])
    _dispose(databases)
    kept = path.with_name("kept")
    kept.mkdir()
    for part in path.parent.glob(f"{path.name}*"):
        part.rename(kept / part.name)
    make(path)
    try:
        yield
    finally:
        _dispose(databases)
        for part in path.parent.glob(f"{path.name}*"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        for part in kept.iterdir():
            part.rename(path.parent / part.name)


@contextmanager
def away(database: Database, *others: Database) -> Iterator[None]:
    """The file is not there and cannot be made."""
    with _replaced([database, *others], Path.mkdir):
        yield


@contextmanager
def damaged(database: Database, *others: Database) -> Iterator[None]:
    """The file is no database."""
    with _replaced([database, *others], lambda path: path.write_bytes(os.urandom(100_000))):
        yield


@contextmanager
def emptied(database: Database, *others: Database) -> Iterator[None]:
    """The file is new: it has none of the tables."""
    with _replaced([database, *others], Path.touch):
        yield


@contextmanager
def exhausted(*databases: Database) -> Iterator[None]:
    """Every connection of the pools is in use."""
    held = []
    for database in databases:
        with suppress(sa.exc.TimeoutError):
            while True:
                held.append(database.engine.connect())
    assert held
    try:
        yield
    finally:
        for connection in held:
            connection.close()


class Proxy:
    """A Unix socket in front of Postgres: it may refuse, fall silent, or cut what is open."""

    def __init__(self, folder: Path, url: str) -> None:
        real = sa.make_url(url)
        host = real.query["host"]
        assert isinstance(host, str)
        self._real = f"{host}/.s.PGSQL.5432"
        self.url = real.set(query={"host": str(folder)}).render_as_string(hide_password=False)
        self._path = folder / ".s.PGSQL.5432"
        self._pairs: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self.open()

    def open(self) -> None:
        """Take connections."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(100)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Open connections end, new ones are refused: Postgres is stopped."""
        self.close()
        try:
            yield
        finally:
            self.open()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Everything is taken and nothing answered: the host is frozen."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def cut(self) -> None:
        """Open connections end: Postgres was restarted."""
        pairs, self._pairs = self._pairs, []
        for one in pairs:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._real)
                self._pairs += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
