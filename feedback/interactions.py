"""The log of answered requests: appended once per answer, never changed.

Knows nothing of HTTP or the engine; the server's recorder hands it finished interactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from core.database import Database, insert_ignoring_duplicates
from core.errors import Invalid, NotFound
from core.ids import AdapterId, CompletionId, TenantId
from feedback.rows import interaction_of, interaction_row
from feedback.tables import interactions
from feedback.targets import complete_targets
from feedback.types import Interaction, Outcome, Page

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class InteractionFilter:
    """Which interactions to list; None means any."""

    adapter_id: AdapterId | None = None
    version: int | None = None
    end_user: str | None = None
    domain: str | None = None
    conversation_id: str | None = None
    outcome: Outcome | None = None
    since_s: float | None = None


class InteractionStore:
    """Interactions in SQL. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, batch: Sequence[Interaction]) -> None:
        """Commit the batch in one transaction; an id that is stored already is left as it is.

        On return all of the batch is durable. Feedback that came before its answer is matched.
        """
        if batch:
            rows = [interaction_row(interaction) for interaction in batch]
            with self._database.write() as connection:
                insert_ignoring_duplicates(connection, interactions, rows)
                complete_targets(connection, batch)

    def stored(
        self, tenant_id: TenantId, completion_ids: Sequence[CompletionId]
    ) -> frozenset[CompletionId]:
        """Those of the ids under which the tenant has an interaction."""
        query = sa.select(interactions.c.id).where(
            interactions.c.tenant_id == tenant_id, interactions.c.id.in_(completion_ids)
        )
        with self._database.read() as connection:
            return frozenset(CompletionId(found) for found in connection.scalars(query))

    def get(self, tenant_id: TenantId, completion_id: CompletionId) -> Interaction:
        """One interaction; NotFound if the tenant has none of that id."""
        with self._database.read() as connection:
            row = (
                connection.execute(
                    sa.select(interactions).where(
                        interactions.c.tenant_id == tenant_id, interactions.c.id == completion_id
                    )
                )
                .mappings()
                .one_or_none()
            )
        if row is None:
            raise NotFound(f"No completion {completion_id!r}.", param="completion_id")
        return interaction_of(row)

    def list(
        self,
        tenant_id: TenantId,
        where: InteractionFilter = InteractionFilter(),
        *,
        after: CompletionId | None = None,
        limit: int = 20,
    ) -> Page[Interaction]:
        """The tenant's interactions, newest first, those following `after`; limit 1 to 200.

        Raises Invalid for the limit, NotFound for a cursor that is not the tenant's.
        """
        check_limit(limit)
        query = sa.select(interactions).where(*_conditions(tenant_id, where))
        with self._database.read() as connection:
            if after is not None:
                cursor = connection.scalar(
                    sa.select(interactions.c.seq).where(
                        interactions.c.tenant_id == tenant_id, interactions.c.id == after
                    )
                )
                if cursor is None:
                    raise NotFound(f"No completion {after!r} to continue after.", param="after")
                query = query.where(interactions.c.seq < cursor)
            query = query.order_by(interactions.c.seq.desc()).limit(limit + 1)
            rows = connection.execute(query).mappings().all()
        return Page(tuple(interaction_of(row) for row in rows[:limit]), len(rows) > limit)

    def recent_adapters(self, *, limit: int, among: int = 2000) -> Sequence[AdapterId]:
        """Adapters whose versions gave the last `among` answers, of all tenants, the busiest
        first."""
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
            return [AdapterId(found) for found in connection.scalars(query)]

    def count(self, tenant_id: TenantId, where: InteractionFilter = InteractionFilter()) -> int:
        """How many of the tenant's interactions match."""
        query = sa.select(sa.func.count()).where(*_conditions(tenant_id, where))
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)


def check_limit(limit: int) -> None:
    """Raise Invalid unless a page of `limit` items may be asked for."""
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"limit must be 1 to {MAX_PAGE}, not {limit}.", param="limit")


def _conditions(tenant_id: TenantId, where: InteractionFilter) -> list[sa.ColumnElement[bool]]:
    columns = interactions.c
    wanted = {
        columns.adapter_id: where.adapter_id,
        columns.version: where.version,
        columns.end_user: where.end_user,
        columns.domain: where.domain,
        columns.conversation_id: where.conversation_id,
        columns.outcome: where.outcome,
    }
    conditions = [columns.tenant_id == tenant_id]
    conditions += [column == value for column, value in wanted.items() if value is not None]
    if where.since_s is not None:
        conditions.append(columns.created_at_s >= where.since_s)
    return conditions
