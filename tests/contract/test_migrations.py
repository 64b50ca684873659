"""The schema comes from migrations alone: repeatable, safe to race, equal to the metadata."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import adapters.tables  # noqa: F401
import core.identity.tables
import core.work.tables  # noqa: F401
import feedback.tables  # noqa: F401
from core.database import Database, metadata

UPGRADE = "import sys; from core.database import Database; Database(sys.argv[1]).upgrade()"


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def revision(database: Database) -> list[str]:
    with database.engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT version_num FROM alembic_version")))


def test_upgrading_twice_is_upgrading_once_and_keeps_the_rows(empty_url: str) -> None:
    from core.identity.tenants import TenantStore

    database = Database(empty_url)
    database.upgrade()
    first = revision(database)
    tenant = TenantStore(database).create("acme")
    database.upgrade()
    assert revision(database) == first
    assert len(first) == 1
    assert TenantStore(database).all() == [tenant]
    database.dispose()


def test_the_migrated_schema_is_the_one_the_code_believes_in(empty_url: str) -> None:
    database = Database(empty_url)
    database.upgrade()
    assert differences(database) == []
    with database.write() as connection:
        connection.execute(sa.text("ALTER TABLE tenants ADD COLUMN unknown TEXT"))
    assert len(differences(database)) == 1
    database.dispose()


def test_two_servers_starting_at_once_on_a_new_database_both_start(empty_url: str) -> None:
    command = [sys.executable, "-c", UPGRADE, empty_url]
    running = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    database = Database(empty_url)
    assert len(revision(database)) == 1
    assert differences(database) == []
    database.dispose()


def test_engine_ids_and_change_numbers_are_never_used_twice(database: Database) -> None:
    """Also after the newest row is gone: SQLite would reuse a plain key."""
    with database.write() as connection:
        sql = sa.text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
        if database.is_sqlite:
            kept = set(connection.scalars(sql))
            assert {"versions", "feedback", "feedback_targets"} <= kept
        else:
            query = "SELECT is_identity, column_default FROM information_schema.columns "
            where = "WHERE table_name = 'versions' AND column_name = 'engine_id'"
            identity, default = connection.execute(sa.text(query + where)).one()
            assert identity == "YES" or "nextval" in default
