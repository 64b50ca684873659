"""The log of answered requests: appended once per answer, never changed; an answer that can be
fetched by its id can be taken out for good.

Knows nothing of HTTP or the engine; the server's recorder hands it finished interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from core.database import Database, found, insert_ignoring_duplicates, row_of
from core.errors import NotFound
from core.ids import AdapterId, CompletionId, TenantId
from core.page import Page
from core.queries import aside
from feedback.history import ANY, Wanted, one_of, read_history
from feedback.tables import interactions
from feedback.targets import complete_targets, lock_tenants, release_targets
from feedback.types import Choice, Interaction


class InteractionStore:
    """Interactions in SQL. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, batch: Sequence[Interaction]) -> None:
        """Commit the batch in one transaction; an id that is stored already is left as it is.

        On return all of the batch is durable. Feedback that came before its answer is matched.
        """
        if batch:
            rows = [row_of(interactions, _values(it)) for it in batch]
            with self._database.write() as connection:
                insert_ignoring_duplicates(connection, interactions, rows)
                complete_targets(connection, batch)

    def fetchable(self, tenant_id: TenantId, completion_id: CompletionId) -> Interaction | None:
        """The tenant's answer of that id if it was kept to be fetched; it has a `document` then."""
        query = sa.select(interactions).where(_fetchable(tenant_id, completion_id))
        with self._database.read() as connection:
            return found(connection, query, Interaction)

    def delete(self, tenant_id: TenantId, completion_id: CompletionId) -> bool:
        """Erase an answer that can be fetched, with its prompt; False if there is none.

        What was said of it stays, and nothing is learnt from that any more.
        """
        with self._database.write() as connection:
            lock_tenants(connection, [tenant_id])
            one = interactions.delete().where(_fetchable(tenant_id, completion_id))
            if connection.execute(one).rowcount == 0:
                return False
            release_targets(connection, completion_id)
            return True

    def stored(
        self, tenant_id: TenantId, completion_ids: Sequence[CompletionId]
    ) -> frozenset[CompletionId]:
        """Those of the ids under which the tenant has an interaction."""
        query = sa.select(interactions.c.id).where(
            aside(interactions.c.tenant_id) == tenant_id, interactions.c.id.in_(completion_ids)
        )
        with self._database.read() as connection:
            return frozenset(CompletionId(name) for name in connection.scalars(query))

    def get(self, tenant_id: TenantId, completion_id: CompletionId) -> Interaction:
        """One answer, without its document; NotFound if the tenant has none of that id."""
        missing = NotFound(f"No interaction {completion_id[:80]!r}.", param="id")
        return self._database.get(one_of(tenant_id, completion_id), Interaction, missing)

    def list(
        self,
        tenant_id: TenantId,
        wanted: Wanted = ANY,
        *,
        after: CompletionId | None = None,
        limit: int = 20,
    ) -> Page[Interaction]:
        """The tenant's answers without their documents, those asked last first, after `after`.

        A page may be short, even empty, though more follow after its cursor. Raises Invalid for a
        limit outside 1 to 200, NotFound for a cursor that is not the tenant's.
        """
        return read_history(self._database, tenant_id, wanted, after=after, limit=limit)

    def recent_adapters(self, *, limit: int, among: int = 2000) -> Sequence[AdapterId]:
        """Adapters whose versions gave the last `among` answers of all tenants, busiest first."""
        columns = interactions.c
        last = (
            sa.select(columns.adapter_id, columns.version, columns.seq)
            .order_by(columns.seq.desc())
            .limit(among)
            .subquery()
        )
        query = (
            sa.select(last.c.adapter_id)
            .where(last.c.adapter_id.is_not(None), last.c.version.is_not(None))
            .group_by(last.c.adapter_id)
            .order_by(sa.func.count().desc(), sa.func.max(last.c.seq).desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [AdapterId(name) for name in connection.scalars(query)]


def _values(answered: Interaction) -> dict[str, Any]:
    values = {name: getattr(answered, name) for name in Interaction.__slots__}
    values["choices"] = [
        {name: told for name in Choice.__slots__ if (told := getattr(choice, name))}
        for choice in answered.choices
    ]
    return values


def _fetchable(tenant_id: TenantId, completion_id: CompletionId) -> sa.ColumnElement[bool]:
    columns = interactions.c
    return (
        (columns.id == completion_id)
        & (aside(columns.tenant_id) == tenant_id)
        & columns.document.is_not(sa.null())
    )
