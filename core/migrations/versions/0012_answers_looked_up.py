"""What is known of each answer beside its text, and an index for each filter of their list.

Revision ID: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NEWEST = ("created_at_s", "seq")
_INDEXES = (
    ("ix_interactions_newest", ("tenant_id",), None),
    ("ix_interactions_outcome", ("tenant_id", "outcome"), None),
    ("ix_interactions_endpoint", ("tenant_id", "endpoint"), None),
    ("ix_interactions_model", ("tenant_id", "model_answered"), None),
    ("ix_interactions_adapter", ("tenant_id", "adapter_id"), "adapter_id"),
    ("ix_interactions_end_user", ("tenant_id", "end_user"), "end_user"),
    ("ix_interactions_domain", ("tenant_id", "domain"), "domain"),
    ("ix_interactions_conversation", ("tenant_id", "conversation_id"), "conversation_id"),
)
"""Name, columns before the order of the list, and what must be there in a row it holds."""

_BEFORE = (
    ("ix_interactions_tenant_seq", ("tenant_id", "seq")),
    ("ix_interactions_adapter", ("adapter_id", "seq")),
    ("ix_interactions_outcome", ("tenant_id", "outcome", "seq")),
)
"""As they were."""


def upgrade() -> None:
    """Add the column, empty for answers that are there, and order the list by time."""
    column = sa.Column("choices", sa.JSON(), nullable=False, server_default="[]")
    op.add_column("interactions", column)
    for name, _ in _BEFORE:
        op.drop_index(name, "interactions")
    for name, columns, there in _INDEXES:
        where = None if there is None else sa.text(f"{there} IS NOT NULL")
        op.create_index(
            name,
            "interactions",
            [*columns, *_NEWEST],
            sqlite_where=where,
            postgresql_where=where,
        )


def downgrade() -> None:
    """The indexes as they were, without the column."""
    for name, _, _ in _INDEXES:
        op.drop_index(name, "interactions")
    for name, columns in _BEFORE:
        op.create_index(name, "interactions", list(columns))
    op.drop_column("interactions", "choices")
