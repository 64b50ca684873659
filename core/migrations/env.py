"""Alembic's entry: runs the migrations on the database handed over by `Database.upgrade`."""

from __future__ import annotations

from alembic import context

from core.database import Database, metadata

database: Database = context.config.attributes["database"]

_PATIENCE_S = 600.0
"""A table of many rows takes its time, and so does another server that is at it already."""

with database.write(wait_s=_PATIENCE_S) as connection:
    if not database.is_sqlite:
        # Two servers may start at once; the second waits and finds nothing to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(815233)")
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
