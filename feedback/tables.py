"""The SQL tables of this package; rows stay in its stores."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from core.database import BigId, metadata

_NEWEST = ("created_at_s", "seq")


def _of(name: str) -> dict[str, Any]:
    """Makes an index of the rows alone that have a value in the column."""
    there = sa.text(f"{name} IS NOT NULL")
    return {"sqlite_where": there, "postgresql_where": there}


interactions = sa.Table(
    "interactions",
    metadata,
    sa.Column("seq", BigId, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(160), nullable=False, unique=True),
    sa.Column("tenant_id", sa.String(40), nullable=False),
    sa.Column("endpoint", sa.String(32), nullable=False),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("model_requested", sa.String(256), nullable=False),
    sa.Column("model_answered", sa.String(256), nullable=False),
    sa.Column("adapter_id", sa.String(40)),
    sa.Column("version", sa.Integer),
    sa.Column("explored", sa.Boolean, nullable=False),
    sa.Column("prompt", sa.JSON, nullable=False),
    sa.Column("answers", sa.JSON, nullable=False),
    sa.Column("finish_reason", sa.String(32)),
    sa.Column("end_user", sa.String(256)),
    sa.Column("domain", sa.String(256)),
    sa.Column("conversation_id", sa.String(256)),
    sa.Column("sampling", sa.JSON, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("response", sa.JSON),
    sa.Column("document", sa.JSON(none_as_null=True)),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("completion_tokens", sa.Integer),
    sa.Column("first_token_ms", sa.Float),
    sa.Column("duration_ms", sa.Float),
    sa.Column("tokens", sa.LargeBinary),
    sa.Column("choices", sa.JSON, nullable=False, server_default="[]"),
    # One for each filter of the list, in the list's order.
    sa.Index("ix_interactions_newest", "tenant_id", *_NEWEST),
    sa.Index("ix_interactions_outcome", "tenant_id", "outcome", *_NEWEST),
    sa.Index("ix_interactions_endpoint", "tenant_id", "endpoint", *_NEWEST),
    sa.Index("ix_interactions_model", "tenant_id", "model_answered", *_NEWEST),
    # Few answers are of somebody or something: the others are in no such index.
    sa.Index("ix_interactions_adapter", "tenant_id", "adapter_id", *_NEWEST, **_of("adapter_id")),
    sa.Index("ix_interactions_end_user", "tenant_id", "end_user", *_NEWEST, **_of("end_user")),
    sa.Index("ix_interactions_domain", "tenant_id", "domain", *_NEWEST, **_of("domain")),
    sa.Index(
        "ix_interactions_conversation",
        *("tenant_id", "conversation_id", *_NEWEST),
        **_of("conversation_id"),
    ),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("seq", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant_id", sa.String(40), nullable=False),
    sa.Column("id", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("updated_at_s", sa.Float, nullable=False),
    sa.Column("completion_id", sa.String(160)),
    sa.Column("choice_index", sa.Integer, nullable=False, default=0),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("value", sa.JSON),
    sa.Column("comment", sa.Text),
    sa.Column("correction", sa.Text),
    sa.Column("comparison", sa.JSON),
    sa.Column("source_kind", sa.String(8), nullable=False),
    sa.Column("source_id", sa.String(256)),
    sa.Column("end_user", sa.String(256)),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("given_by", sa.String(40)),  # the public part of a key, or the id of a device
    sa.UniqueConstraint("tenant_id", "id"),
    sa.Index("ix_feedback_completion", "completion_id"),
    sa.Index("ix_feedback_tenant_seq", "tenant_id", "seq"),
    # One for each filter of the list: what matches nothing must not read all there is.
    sa.Index("ix_feedback_kind", "tenant_id", "kind", "seq"),
    sa.Index("ix_feedback_name", "tenant_id", "name", "seq"),
    sa.Index("ix_feedback_end_user", "tenant_id", "end_user", "seq"),
    sqlite_autoincrement=True,  # a deleted item's number must not name another in a cursor
)

feedback_targets = sa.Table(
    # Every completion a feedback item speaks of (a comparison speaks of several); lets the
    # trainer join feedback to interactions that are logged before or after it. `seq` is the
    # trainer's watermark: a row is written anew, with a fresh number, whenever there is news.
    "feedback_targets",
    metadata,
    sa.Column("seq", BigId, primary_key=True, autoincrement=True),
    sa.Column(
        "feedback_seq", BigId, sa.ForeignKey("feedback.seq", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("completion_id", sa.String(160), nullable=False),
    # The adapter that can learn from it; null until a completed answer of an adapter is logged.
    sa.Column("adapter_id", sa.String(40)),
    sa.UniqueConstraint("feedback_seq", "completion_id"),
    sa.Index("ix_feedback_targets_completion", "completion_id", "feedback_seq"),
    sa.Index("ix_feedback_targets_adapter", "adapter_id", "seq", "feedback_seq"),
    sa.Index("ix_feedback_targets_item", "adapter_id", "feedback_seq"),
    sqlite_autoincrement=True,  # a number used twice would hide news from the watermark
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("adapter_id", sa.String(40), nullable=False),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("artifact_uri", sa.Text, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Index("ix_snapshots_adapter", "adapter_id"),
)

looks = sa.Table(
    # What a trainer last saw of an adapter, for a server that was asked about it.
    "looks",
    metadata,
    sa.Column("adapter_id", sa.String(40), primary_key=True),
    sa.Column("waiting_s", sa.Float),  # when a look was asked for that is still to come
    sa.Column("answered_s", sa.Float, nullable=False),  # the newest question that is answered
    sa.Column("look", sa.Text),
    sa.Index("ix_looks_waiting", "waiting_s"),  # the trainer asks several times a second
)
