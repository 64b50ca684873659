"""Names in feedback that were stored before names had one spelling get it: NFC.

Revision ID: 0010
"""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_AT_ONCE = 1000
_feedback = sa.table("feedback", *map(sa.column, ("seq", "end_user", "name")))


def upgrade() -> None:
    """Looks at each item once; ASCII is its own NFC and is passed over in SQL."""
    bind, at = op.get_bind(), -1
    columns = _feedback.c
    odd = sa.or_(*map(_beyond_ascii, (columns.end_user, columns.name)))
    while True:
        query = sa.select(_feedback).where(columns.seq > at, odd).order_by(columns.seq)
        rows = bind.execute(query.limit(_AT_ONCE)).mappings().all()
        for row in rows:
            names = {name: _one(row[name]) for name in ("end_user", "name")}
            if any(names[name] != row[name] for name in names):
                bind.execute(_feedback.update().where(columns.seq == row["seq"]).values(names))
        if len(rows) < _AT_ONCE:
            return
        at = rows[-1]["seq"]


def downgrade() -> None:
    """Nothing: the names are the same names."""


def _beyond_ascii(column: sa.ColumnClause[str]) -> sa.ColumnElement[bool]:
    if op.get_bind().dialect.name == "sqlite":
        return column.op("GLOB")("*[^ -~]*")
    return column.op("~")("[^ -~]")


def _one(name: str | None) -> str | None:
    # A longer one than any that is taken now may be all accents, whose NFC takes quadratic time.
    return unicodedata.normalize("NFC", name) if name and len(name) <= 1024 else name
