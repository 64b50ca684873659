"""An immutable picture of the registry in memory: what the token path reads instead of SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from adapters import tables
from adapters.registry import adapter_of, version_of
from adapters.tenants import key_of, tenant_of
from adapters.types import Adapter, ApiKey, Tenant, Version
from core.database import Database, changes
from core.ids import AdapterId, TenantId


@dataclass(frozen=True, slots=True)
class Directory:
    """All of the registry as of change number `change`."""

    change: int = 0
    tenants: Mapping[TenantId, Tenant] = field(default_factory=dict)
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    by_name: Mapping[tuple[TenantId, str], Adapter] = field(default_factory=dict)
    by_subject: Mapping[tuple[TenantId, str, str | None], Adapter] = field(default_factory=dict)
    versions: Mapping[AdapterId, Mapping[int, Version]] = field(default_factory=dict)

    def live(self) -> list[Version]:
        """The live version of every adapter that has one."""
        return [
            self.versions[adapter.id][adapter.live_version]
            for adapter in self.by_name.values()
            if adapter.live_version is not None
        ]


def load_directory(database: Database) -> Directory:
    """Read the whole registry in one consistent snapshot."""
    with database.read() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        change = int(connection.scalar(sa.select(sa.func.max(changes.c.id))) or 0)
        tenants = [tenant_of(row) for row in connection.execute(sa.select(tables.tenants))]
        keys = [key_of(row) for row in connection.execute(sa.select(tables.api_keys))]
        adapters = [
            adapter_of(row)
            for row in connection.execute(
                sa.select(tables.adapters).order_by(tables.adapters.c.created_at_s)
            )
        ]
        versions: dict[AdapterId, dict[int, Version]] = {}
        for row in connection.execute(sa.select(tables.versions)):
            version = version_of(row)
            versions.setdefault(version.adapter_id, {})[version.number] = version
    by_subject: dict[tuple[TenantId, str, str | None], Adapter] = {}
    for adapter in adapters:
        # The oldest adapter of a subject wins, so that adding another changes nobody's answers.
        by_subject.setdefault((adapter.tenant_id, adapter.scope, adapter.subject), adapter)
    return Directory(
        change=change,
        tenants={tenant.id: tenant for tenant in tenants},
        keys={key.public_id: key for key in keys},
        by_name={(adapter.tenant_id, adapter.name): adapter for adapter in adapters},
        by_subject=by_subject,
        versions=versions,
    )
