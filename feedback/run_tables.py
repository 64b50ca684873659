"""The SQL tables of training runs; rows stay in `feedback.runs`."""

from __future__ import annotations

import sqlalchemy as sa

from core.database import BigId, metadata

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant_id", sa.String(40), nullable=False),
    sa.Column("adapter_id", sa.String(40), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("trigger", sa.String(64), nullable=False),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("updated_at_s", sa.Float, nullable=False),
    sa.Column("finished_at_s", sa.Float),
    sa.Column("cancel_requested_at_s", sa.Float),
    sa.Column("last_feedback_seq", sa.BigInteger, nullable=False),
    sa.Column("last_feedback_at_s", sa.Float),
    sa.Column("snapshot_digest", sa.String(64)),
    sa.Column("live_before", sa.Integer),
    sa.Column("version", sa.Integer),
    sa.Column("verdict", sa.JSON),
    sa.Column("error", sa.Text),
    # "active" while the run is under way, else its id: at most one active run per adapter.
    sa.Column("active_key", sa.String(48), nullable=False),
    sa.UniqueConstraint("adapter_id", "active_key"),
    sa.Index("ix_runs_tenant", "tenant_id", "created_at_s"),
    sa.Index("ix_runs_watermark", "adapter_id", "last_feedback_seq"),
)

run_events = sa.Table(
    "run_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.String(40), sa.ForeignKey("runs.id"), nullable=False),
    # Set by a durable step so that its replay does not log the same event twice.
    sa.Column("key", sa.String(64)),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("type", sa.String(12), nullable=False),  # message | metrics
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.UniqueConstraint("run_id", "key"),
    sa.Index("ix_run_events_run", "run_id", "id"),
)
