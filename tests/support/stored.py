"""What lies in the tables of interactions and feedback, for tests that look behind the stores."""

from __future__ import annotations

import sqlalchemy as sa

from core.database import Database
from core.errors import NotFound
from core.ids import TenantId
from feedback.tables import interactions
from feedback.types import Interaction


def count(database: Database, table: sa.Table, tenant_id: TenantId) -> int:
    """How many rows of the table are the tenant's."""
    query = sa.select(sa.func.count()).select_from(table)
    return int(database.scalar(query.where(table.c.tenant_id == tenant_id)))


def stored_answer(database: Database, completion_id: str) -> Interaction:
    """The interaction of that id, whosever it is."""
    query = sa.select(interactions).where(interactions.c.id == completion_id)
    return database.get(query, Interaction, NotFound(completion_id))
