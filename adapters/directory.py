"""An immutable picture of the registry in memory: what the token path reads instead of SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from adapters import tables
from adapters.types import Adapter, Version
from core.database import Database, Noun, changes, found_all
from core.identity import tables as identity
from core.identity.types import ApiKey, Tenant
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


@dataclass(frozen=True, slots=True)
class News:
    """A newer picture, and the adapters in it that may differ from the older one."""

    directory: Directory
    adapters: Sequence[Adapter]


def load_directory(database: Database) -> Directory:
    """Read the whole registry in one consistent snapshot."""
    return renew_directory(database, Directory()).directory


def renew_directory(database: Database, known: Directory) -> News:
    """`known` as the registry is now, in one consistent snapshot.

    Reads what has changed since, so that the cost of a change does not grow with the registry;
    all of it where that cannot be told.
    """
    with database.read() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        rows = connection.execute(
            sa.select(changes.c.id, changes.c.topic, changes.c.subject)
            .where(changes.c.id > known.change)
            .order_by(changes.c.id.desc())
            .limit(_MANY)
        ).all()
        if not rows:
            return News(known, ())
        changed: dict[str, set[str]] = {}
        for row in rows:
            changed.setdefault(_NOUNS.get(row.topic, ""), set()).add(row.subject or "")
        unclear = "" in changed or any("" in ids for ids in changed.values())
        if known.change == 0 or len(rows) == _MANY or unclear:
            return _renewed(connection, Directory(), rows[0].id)
        return _renewed(connection, known, rows[0].id, changed)


_MANY = 200
_NOUNS = {
    "tenants": "tenants", "keys": "keys",
    "adapters": "adapters", "versions": "adapters", "activations": "adapters",
}  # fmt: skip
"""What has to be read anew after a change, by the change's topic."""


def _renewed(
    connection: sa.Connection,
    known: Directory,
    change: int,
    changed: Mapping[str, set[str]] | None = None,
) -> News:
    """`known` with the rows of the ids in `changed`, by noun; with all rows where it is None."""

    def read(topic: str, id_column: sa.Column[Any], noun: type[Noun]) -> list[Noun]:
        query = sa.select(id_column.table)
        if changed is not None:
            query = query.where(id_column.in_(changed.get(topic, ())))
        return found_all(connection, query, noun)

    tenants = read("tenants", identity.tenants.c.id, Tenant)
    keys = read("keys", identity.api_keys.c.public_id, ApiKey)
    adapters = sorted(read("adapters", tables.adapters.c.id, Adapter), key=_age)
    versions: dict[AdapterId, dict[int, Version]] = {}
    for version in read("adapters", tables.versions.c.adapter_id, Version):
        versions.setdefault(version.adapter_id, {})[version.number] = version
    by_subject = dict(known.by_subject)
    for adapter in adapters:
        # The oldest adapter of a subject wins, so that adding another changes nobody's answers.
        before = by_subject.get(adapter.serves)
        if before is None or before.id == adapter.id or _age(adapter) < _age(before):
            by_subject[adapter.serves] = adapter
    directory = Directory(
        change=change,
        tenants={**known.tenants, **{tenant.id: tenant for tenant in tenants}},
        keys={**known.keys, **{key.public_id: key for key in keys}},
        by_name={**known.by_name, **{(a.tenant_id, a.name): a for a in adapters}},
        by_subject=by_subject,
        versions={**known.versions, **versions},
    )
    return News(directory, adapters)


def _age(adapter: Adapter) -> tuple[float, AdapterId]:
    return adapter.created_at_s, adapter.id
