"""The SQL tables of durable work; rows stay in this package."""

from __future__ import annotations

import sqlalchemy as sa

from core.database import BigId, metadata

QUERIED = ("model", "layout", "precision", "last_feedback_seq", "last_feedback_at_s")
"""Facts that queries ask for: columns of their own, null for kinds without them."""

work = sa.Table(
    "work",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("tenant_id", sa.String(40), nullable=False),
    sa.Column("adapter_id", sa.String(40)),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("updated_at_s", sa.Float, nullable=False),
    sa.Column("finished_at_s", sa.Float),
    sa.Column("cancel_requested_at_s", sa.Float),
    sa.Column("model", sa.String(80)),  # support@3, or the base model's name
    sa.Column("layout", sa.String(16)),
    sa.Column("precision", sa.String(8)),
    sa.Column("last_feedback_seq", sa.BigInteger),
    sa.Column("last_feedback_at_s", sa.Float),
    sa.Column("facts", sa.JSON, nullable=False),  # the others, as the kind's dataclass
    # What was asked for, and "active" while it is under way, else the piece's id: of the same
    # thing there is at most one piece under way.
    sa.Column("request_key", sa.String(64), nullable=False),
    sa.Column("active_key", sa.String(48), nullable=False),
    sa.UniqueConstraint("kind", "request_key", "active_key"),
    sa.Index("ix_work_tenant", "kind", "tenant_id", "created_at_s", "id"),
    # One for each filter of the lists: what matches nothing must not read all there is.
    sa.Index("ix_work_adapter", "kind", "adapter_id", "created_at_s", "id"),
    sa.Index("ix_work_model", "kind", "tenant_id", "model", "created_at_s", "id"),
    sa.Index("ix_work_state", "kind", "tenant_id", "state", "created_at_s", "id"),
    sa.Index("ix_work_layout", "kind", "tenant_id", "layout", "created_at_s", "id"),
    sa.Index("ix_work_precision", "kind", "tenant_id", "precision", "created_at_s", "id"),
    sa.Index("ix_work_active", "kind", "active_key"),  # the worker looks several times a second
    sa.Index("ix_work_watermark", "adapter_id", "last_feedback_seq"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # ATTUNE_WORKER_ID
    sa.Column("looked_at_s", sa.Float),
    sa.Column("trouble", sa.String(400)),
    sa.Column("told_at_s", sa.Float, nullable=False),
)

work_events = sa.Table(
    "work_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("work_id", sa.String(40), sa.ForeignKey("work.id"), nullable=False),
    # Set by a durable step so that its replay does not log the same event twice.
    sa.Column("key", sa.String(64)),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("type", sa.String(12), nullable=False),  # message | metrics
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.UniqueConstraint("work_id", "key"),
    sa.Index("ix_work_events_work", "work_id", "id"),
)
