"""One ledger of durable work: training runs and exports move into it.

Revision ID: 0004
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_SHARED = (
    "id", "tenant_id", "adapter_id", "state", "error", "created_at_s", "updated_at_s",
    "finished_at_s", "cancel_requested_at_s", "active_key",
)  # fmt: skip
_RUN_COLUMNS = ("last_feedback_seq", "last_feedback_at_s")
_RUN_FACTS = ("trigger", "snapshot_digest", "live_before", "version", "verdict")
_EXPORT_COLUMNS = ("model", "layout", "precision", "progress", "message", "request_key")
_EXPORT_FACTS = ("version", "manifest", "adapter_manifest", "files")


def upgrade() -> None:
    """Add the ledger, move both kinds of work and the runs' logs into it, drop the old tables."""
    _create_ledger()
    connection = op.get_bind()
    for row in _rows("runs"):
        values = {name: row[name] for name in (*_SHARED, *_RUN_COLUMNS)}
        facts = {name: row[name] for name in _RUN_FACTS}
        key = row["adapter_id"]
        _insert(
            "work", **values, kind="learn", request_key=key, progress=0.0, message="", facts=facts
        )
    for row in _rows("exports"):
        values = {name: row[name] for name in (*_SHARED, *_EXPORT_COLUMNS)}
        _insert("work", **values, kind="export", facts={name: row[name] for name in _EXPORT_FACTS})
    columns = "key, at_s, type, message, data"
    op.execute(
        f"INSERT INTO work_events (id, work_id, {columns}) SELECT id, run_id, {columns} "
        "FROM run_events"
    )
    _count_on(connection, "work_events")
    op.drop_table("run_events")
    op.drop_table("runs")
    op.drop_table("exports")


def downgrade() -> None:
    """The old tables again, with what they can hold; other kinds of work are dropped."""
    _create_runs()
    _create_exports()
    connection = op.get_bind()
    for row in _rows("work"):
        values = {name: row[name] for name in _SHARED}
        facts = row["facts"]
        if row["kind"] == "learn":
            values |= {name: row[name] for name in _RUN_COLUMNS}
            _insert("runs", **values, **{name: facts[name] for name in _RUN_FACTS})
        elif row["kind"] == "export":
            values |= {name: row[name] for name in _EXPORT_COLUMNS}
            _insert("exports", **values, **{name: facts[name] for name in _EXPORT_FACTS})
    columns = "key, at_s, type, message, data"
    op.execute(
        f"INSERT INTO run_events (id, run_id, {columns}) SELECT id, work_id, {columns} "
        "FROM work_events WHERE work_id IN (SELECT id FROM runs)"
    )
    _count_on(connection, "run_events")
    op.drop_table("work_events")
    op.drop_table("work")


def _rows(table: str) -> list[Any]:
    connection = op.get_bind()
    return list(connection.execute(sa.select(_table(table))).mappings())


def _insert(table: str, **values: Any) -> None:
    op.get_bind().execute(_table(table).insert().values(**values))


def _table(name: str) -> sa.Table:
    # None in a JSON column is SQL's NULL, as the stores write it; reflected types say 'null'.
    table = sa.Table(name, sa.MetaData(), autoload_with=op.get_bind())
    for column in table.columns:
        if isinstance(column.type, sa.JSON):
            column.type = sa.JSON(none_as_null=True)
    return table


def _count_on(connection: sa.Connection, table: str) -> None:
    """Let new rows follow the copied ids; SQLite does so by itself."""
    if connection.dialect.name == "postgresql":
        op.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} "
            "HAVING max(id) IS NOT NULL"
        )


def _create_ledger() -> None:
    op.create_table(
        "work",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("updated_at_s", sa.Float(), nullable=False),
        sa.Column("finished_at_s", sa.Float(), nullable=True),
        sa.Column("cancel_requested_at_s", sa.Float(), nullable=True),
        sa.Column("model", sa.String(length=80), nullable=True),
        sa.Column("layout", sa.String(length=16), nullable=True),
        sa.Column("precision", sa.String(length=8), nullable=True),
        sa.Column("last_feedback_seq", sa.BigInteger(), nullable=True),
        sa.Column("last_feedback_at_s", sa.Float(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("request_key", sa.String(length=64), nullable=False),
        sa.Column("active_key", sa.String(length=48), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work")),
        sa.UniqueConstraint(
            "kind", "request_key", "active_key", name=op.f("uq_work_kind_request_key_active_key")
        ),
    )
    op.create_index("ix_work_tenant", "work", ["kind", "tenant_id", "created_at_s"])
    op.create_index("ix_work_active", "work", ["kind", "active_key"])
    op.create_index("ix_work_watermark", "work", ["adapter_id", "last_feedback_seq"])
    _create_events("work_events", "work_id", "work", "ix_work_events_work")


def _create_events(name: str, column: str, of: str, index: str) -> None:
    op.create_table(
        name,
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column(column, sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("type", sa.String(length=12), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint([column], [f"{of}.id"], name=op.f(f"fk_{name}_{column}")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        sa.UniqueConstraint(column, "key", name=op.f(f"uq_{name}_{column}_key")),
    )
    op.create_index(index, name, [column, "id"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("trigger", sa.String(length=64), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("updated_at_s", sa.Float(), nullable=False),
        sa.Column("finished_at_s", sa.Float(), nullable=True),
        sa.Column("cancel_requested_at_s", sa.Float(), nullable=True),
        sa.Column("last_feedback_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_feedback_at_s", sa.Float(), nullable=True),
        sa.Column("snapshot_digest", sa.String(length=64), nullable=True),
        sa.Column("live_before", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("active_key", sa.String(length=48), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("adapter_id", "active_key", name=op.f("uq_runs_adapter_id_active_key")),
    )
    op.create_index("ix_runs_tenant", "runs", ["tenant_id", "created_at_s"])
    op.create_index("ix_runs_watermark", "runs", ["adapter_id", "last_feedback_seq"])
    _create_events("run_events", "run_id", "runs", "ix_run_events_run")


def _create_exports() -> None:
    op.create_table(
        "exports",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=80), nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("layout", sa.String(length=16), nullable=False),
        sa.Column("precision", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("manifest", sa.JSON(), nullable=True),
        sa.Column("adapter_manifest", sa.JSON(), nullable=True),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("updated_at_s", sa.Float(), nullable=False),
        sa.Column("finished_at_s", sa.Float(), nullable=True),
        sa.Column("cancel_requested_at_s", sa.Float(), nullable=True),
        sa.Column("request_key", sa.String(length=64), nullable=False),
        sa.Column("active_key", sa.String(length=48), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_exports_tenant_id")),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_exports_adapter_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
        sa.UniqueConstraint(
            "request_key", "active_key", name=op.f("uq_exports_request_key_active_key")
        ),
    )
    op.create_index("ix_exports_active", "exports", ["active_key"])
    op.create_index("ix_exports_tenant", "exports", ["tenant_id", "created_at_s"])
