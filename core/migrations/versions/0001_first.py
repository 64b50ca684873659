"""The first schema.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "changes",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=32), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
    )
    op.create_table(
        "engine_reports",
        sa.Column("server_id", sa.String(length=40), nullable=False),
        sa.Column("engine_id", BIG, nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("server_id", "engine_id", name=op.f("pk_engine_reports")),
    )
    op.create_table(
        "feedback",
        sa.Column("seq", BIG, autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("updated_at_s", sa.Float(), nullable=False),
        sa.Column("completion_id", sa.String(length=160), nullable=True),
        sa.Column("choice_index", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.JSON(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("correction", sa.Text(), nullable=True),
        sa.Column("comparison", sa.JSON(), nullable=True),
        sa.Column("source_kind", sa.String(length=8), nullable=False),
        sa.Column("source_id", sa.String(length=256), nullable=True),
        sa.Column("end_user", sa.String(length=256), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_feedback")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_feedback_tenant_id_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_completion", "feedback", ["completion_id"], unique=False)
    op.create_index("ix_feedback_tenant_seq", "feedback", ["tenant_id", "seq"], unique=False)
    op.create_table(
        "interactions",
        sa.Column("seq", BIG, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("endpoint", sa.String(length=32), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("model_requested", sa.String(length=256), nullable=False),
        sa.Column("model_answered", sa.String(length=256), nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("explored", sa.Boolean(), nullable=False),
        sa.Column("prompt", sa.JSON(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("finish_reason", sa.String(length=32), nullable=True),
        sa.Column("end_user", sa.String(length=256), nullable=True),
        sa.Column("domain", sa.String(length=256), nullable=True),
        sa.Column("conversation_id", sa.String(length=256), nullable=True),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("response", sa.JSON(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("first_token_ms", sa.Float(), nullable=True),
        sa.Column("duration_ms", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_interactions")),
        sa.UniqueConstraint("id", name=op.f("uq_interactions_id")),
    )
    op.create_index("ix_interactions_adapter", "interactions", ["adapter_id", "seq"], unique=False)
    op.create_index(
        "ix_interactions_tenant_seq", "interactions", ["tenant_id", "seq"], unique=False
    )
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
    op.create_index("ix_runs_tenant", "runs", ["tenant_id", "created_at_s"], unique=False)
    op.create_index("ix_runs_watermark", "runs", ["adapter_id", "last_feedback_seq"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "snapshots",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_snapshots")),
    )
    op.create_index("ix_snapshots_adapter", "snapshots", ["adapter_id"], unique=False)
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "adapters",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=256), nullable=True),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("live_version", sa.Integer(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("next_number", sa.Integer(), nullable=False),
        sa.Column("learning", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_adapters_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapters")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_adapters_tenant_id_name")),
    )
    op.create_index(
        "ix_adapters_subject", "adapters", ["tenant_id", "scope", "subject"], unique=False
    )
    op.create_table(
        "api_keys",
        sa.Column("public_id", sa.String(length=12), nullable=False),
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("expires_at_s", sa.Float(), nullable=True),
        sa.Column("revoked_at_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("public_id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "feedback_targets",
        sa.Column("seq", BIG, autoincrement=True, nullable=False),
        sa.Column("feedback_seq", BIG, nullable=False),
        sa.Column("completion_id", sa.String(length=160), nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(
            ["feedback_seq"],
            ["feedback.seq"],
            name=op.f("fk_feedback_targets_feedback_seq"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_feedback_targets")),
        sa.UniqueConstraint(
            "feedback_seq",
            "completion_id",
            name=op.f("uq_feedback_targets_feedback_seq_completion_id"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_feedback_targets_adapter", "feedback_targets", ["adapter_id", "seq"], unique=False
    )
    op.create_index(
        "ix_feedback_targets_completion", "feedback_targets", ["completion_id"], unique=False
    )
    op.create_table(
        "run_events",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("type", sa.String(length=12), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_events_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_events")),
        sa.UniqueConstraint("run_id", "key", name=op.f("uq_run_events_run_id_key")),
    )
    op.create_index("ix_run_events_run", "run_events", ["run_id", "id"], unique=False)
    op.create_table(
        "activations",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("previous", sa.Integer(), nullable=True),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_activations_adapter_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activations")),
    )
    op.create_index("ix_activations_adapter", "activations", ["adapter_id", "id"], unique=False)
    op.create_table(
        "versions",
        sa.Column("engine_id", BIG, autoincrement=True, nullable=False),
        sa.Column("adapter_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=True),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name=op.f("fk_versions_adapter_id")
        ),
        sa.PrimaryKeyConstraint("engine_id", name=op.f("pk_versions")),
        sa.UniqueConstraint("adapter_id", "number", name=op.f("uq_versions_adapter_id_number")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop every table."""
    op.drop_table("versions")
    op.drop_table("activations")
    op.drop_table("run_events")
    op.drop_table("feedback_targets")
    op.drop_table("api_keys")
    op.drop_table("adapters")
    op.drop_table("tenants")
    op.drop_table("snapshots")
    op.drop_table("secrets")
    op.drop_table("runs")
    op.drop_table("interactions")
    op.drop_table("feedback")
    op.drop_table("engine_reports")
    op.drop_table("changes")
