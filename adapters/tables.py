"""The SQL tables of adapters, versions and exports; rows stay in this package's stores."""

from __future__ import annotations

import sqlalchemy as sa

from core.database import BigId, metadata

adapters = sa.Table(
    "adapters",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("scope", sa.String(8), nullable=False),  # tenant | domain | user
    sa.Column("subject", sa.String(256)),  # the domain or the end user it is for
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("live_version", sa.Integer),
    sa.Column("generation", sa.Integer, nullable=False, default=0),
    sa.Column("next_number", sa.Integer, nullable=False, default=1),
    sa.Column("learning", sa.JSON, nullable=False),
    sa.UniqueConstraint("tenant_id", "name"),
    sa.Index("ix_adapters_subject", "tenant_id", "scope", "subject"),
)

versions = sa.Table(
    "versions",
    metadata,
    # Also the engine's integer id of the adapter: unique for ever, over all adapters.
    sa.Column("engine_id", BigId, primary_key=True, autoincrement=True),
    sa.Column("adapter_id", sa.String(40), sa.ForeignKey("adapters.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("target_modules", sa.JSON, nullable=False),
    sa.Column("source", sa.String(8), nullable=False),  # upload | run
    sa.Column("run_id", sa.String(40)),
    sa.Column("parent", sa.Integer),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.UniqueConstraint("adapter_id", "number"),
    sqlite_autoincrement=True,
)

activations = sa.Table(
    "activations",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("adapter_id", sa.String(40), sa.ForeignKey("adapters.id"), nullable=False),
    sa.Column("version", sa.Integer),
    sa.Column("previous", sa.Integer),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Index("ix_activations_adapter", "adapter_id", "id"),
)

engine_reports = sa.Table(
    # What each server last said of a version it tried to load: makes a refused load visible.
    "engine_reports",
    metadata,
    sa.Column("server_id", sa.String(40), primary_key=True),
    sa.Column("engine_id", BigId, primary_key=True),
    sa.Column("state", sa.String(12), nullable=False),  # resident | failed
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("at_s", sa.Float, nullable=False),
)

exports = sa.Table(
    "exports",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant_id", sa.String(40), sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("model", sa.String(80), nullable=False),  # support@3, or the base model's name
    sa.Column("adapter_id", sa.String(40), sa.ForeignKey("adapters.id")),  # null: the base alone
    sa.Column("version", sa.Integer),
    sa.Column("layout", sa.String(16), nullable=False),
    sa.Column("precision", sa.String(8), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("progress", sa.Float, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("manifest", sa.JSON),
    sa.Column("adapter_manifest", sa.JSON),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("created_at_s", sa.Float, nullable=False),
    sa.Column("updated_at_s", sa.Float, nullable=False),
    sa.Column("finished_at_s", sa.Float),
    sa.Column("cancel_requested_at_s", sa.Float),
    # What was asked for, as a hash, and "active" while it is under way, else the export's id:
    # the same thing is built at most once at a time.
    sa.Column("request_key", sa.String(64), nullable=False),
    sa.Column("active_key", sa.String(48), nullable=False),
    sa.UniqueConstraint("request_key", "active_key"),
    sa.Index("ix_exports_tenant", "tenant_id", "created_at_s"),
    sa.Index("ix_exports_active", "active_key"),  # the trainer looks several times a second
)

exported_bases = sa.Table(
    # The base model's part of layout base+adapters: every version of every tenant runs on it.
    "exported_bases",
    metadata,
    sa.Column("base_digest", sa.String(64), primary_key=True),
    sa.Column("precision", sa.String(8), primary_key=True),
    sa.Column("manifest", sa.JSON, nullable=False),
    sa.Column("created_at_s", sa.Float, nullable=False),
)
