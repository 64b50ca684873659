"""The SQL tables of adapters, versions and exported bases; rows stay in this package's stores."""

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
    sa.Column("base_digest", sa.String(64)),  # of the base model it was made for
    sa.UniqueConstraint("adapter_id", "number"),
    sa.Index("ix_versions_run", "run_id"),
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

base_model = sa.Table(
    # The one base model that everything here is served and trained on: one row, of id 1.
    "base_model",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # as the operator calls it; may be a path
    sa.Column("since_s", sa.Float, nullable=False),
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
    sa.Index("ix_engine_reports_engine", "engine_id"),
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
