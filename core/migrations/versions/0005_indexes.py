"""An index for each filter of a list and each repeated read, whatever the statistics say.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INDEXES = (
    ("ix_feedback_targets_completion", "feedback_targets", ("completion_id", "feedback_seq")),
    ("ix_feedback_targets_adapter", "feedback_targets", ("adapter_id", "seq", "feedback_seq")),
    ("ix_feedback_targets_item", "feedback_targets", ("adapter_id", "feedback_seq")),
    ("ix_interactions_outcome", "interactions", ("tenant_id", "outcome", "seq")),
    ("ix_feedback_kind", "feedback", ("tenant_id", "kind", "seq")),
    ("ix_feedback_name", "feedback", ("tenant_id", "name", "seq")),
    ("ix_feedback_end_user", "feedback", ("tenant_id", "end_user", "seq")),
    ("ix_versions_run", "versions", ("run_id",)),
    ("ix_engine_reports_engine", "engine_reports", ("engine_id",)),
    ("ix_api_keys_tenant", "api_keys", ("tenant_id", "created_at_s")),
    ("ix_work_adapter", "work", ("kind", "adapter_id", "created_at_s", "id")),
    ("ix_work_model", "work", ("kind", "tenant_id", "model", "created_at_s", "id")),
    ("ix_work_state", "work", ("kind", "tenant_id", "state", "created_at_s", "id")),
    ("ix_work_layout", "work", ("kind", "tenant_id", "layout", "created_at_s", "id")),
    ("ix_work_precision", "work", ("kind", "tenant_id", "precision", "created_at_s", "id")),
    ("ix_work_tenant", "work", ("kind", "tenant_id", "created_at_s", "id")),
)
_WIDENED = (
    ("ix_feedback_targets_completion", "feedback_targets", ("completion_id",)),
    ("ix_feedback_targets_adapter", "feedback_targets", ("adapter_id", "seq")),
    ("ix_work_tenant", "work", ("kind", "tenant_id", "created_at_s")),
)
"""As they were."""


def upgrade() -> None:
    """Add the new ones; put wider ones in the place of three."""
    for name, table, _ in _WIDENED:
        op.drop_index(name, table)
    for name, table, columns in _INDEXES:
        op.create_index(name, table, list(columns))


def downgrade() -> None:
    """The indexes as they were."""
    for name, table, _ in _INDEXES:
        op.drop_index(name, table)
    for name, table, columns in _WIDENED:
        op.create_index(name, table, list(columns))
