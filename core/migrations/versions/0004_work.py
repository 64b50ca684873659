"""One ledger of durable work: training runs and exports move into it.

Revision ID: 0004
"""

from __future__ import annotations

from collections.abc import Callable
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
    _copy(
        "runs",
        "work",
        lambda run: {
            **_some(run, *_SHARED, *_RUN_COLUMNS),
            "kind": "learn",
            "request_key": run["adapter_id"],
            "progress": 0.0,
            "message": "",
            "facts": _some(run, *_RUN_FACTS),
        },
    )
    _copy(
        "exports",
        "work",
        lambda export: {
            **_some(export, *_SHARED, *_EXPORT_COLUMNS),
            "kind": "export",
            "facts": _some(export, *_EXPORT_FACTS),
        },
    )
    _copy_events("run_events", "run_id", "work_events", "work_id")
    for name in ("run_events", "runs", "exports"):
        op.drop_table(name)


def downgrade() -> None:
    """The old tables again, with what they can hold; other kinds of work are dropped."""
    _create_runs()
    _create_exports()
    _copy(
        "work",
        "runs",
        lambda work: {**_some(work, *_SHARED, *_RUN_COLUMNS), **_some(work["facts"], *_RUN_FACTS)},
        kind="learn",
    )
    _copy(
        "work",
        "exports",
        lambda work: {
            **_some(work, *_SHARED, *_EXPORT_COLUMNS),
            **_some(work["facts"], *_EXPORT_FACTS),
        },
        kind="export",
    )
    _copy_events("work_events", "work_id", "run_events", "run_id")
    for name in ("work_events", "work"):
        op.drop_table(name)


def _copy(
    source: str, target: str, row_of: Callable[[Any], dict[str, Any]], kind: str | None = None
) -> None:
    table = _table(source)
    query = sa.select(table) if kind is None else sa.select(table).where(table.c.kind == kind)
    rows = [row_of(row) for row in op.get_bind().execute(query).mappings()]
    if rows:
        op.get_bind().execute(_table(target).insert(), rows)


def _some(row: Any, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _copy_events(source: str, owner: str, target: str, new_owner: str) -> None:
    """Those whose piece of work was copied, under their ids: clients page by them."""
    columns = "key, at_s, type, message, data"
    pieces = "work" if target == "work_events" else "runs"
    op.execute(
        f"INSERT INTO {target} (id, {new_owner}, {columns}) SELECT id, {owner}, {columns} "
        f"FROM {source} WHERE {owner} IN (SELECT id FROM {pieces})"
    )
    if op.get_bind().dialect.name == "postgresql":  # SQLite counts on by itself
        op.execute(
            f"SELECT setval(pg_get_serial_sequence('{target}', 'id'), max(id)) FROM {target} "
            "HAVING max(id) IS NOT NULL"
        )


def _table(name: str) -> sa.Table:
    # None in a JSON column is SQL's NULL, as the stores write it; reflected types say 'null'.
    table = sa.Table(name, sa.MetaData(), autoload_with=op.get_bind())
    for column in table.columns:
        if isinstance(column.type, sa.JSON):
            column.type = sa.JSON(none_as_null=True)
    return table


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
