"""One page of a list, as every store yields it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from core.database import Database
from core.errors import Invalid, NotFound

MAX_PAGE = 200

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list, newest first; the last item's id is the next page's cursor."""

    items: tuple[Item, ...]
    has_more: bool


def read_page(
    database: Database,
    mine: sa.Select[Any],
    where: Iterable[sa.ColumnElement[bool]],
    read: Callable[[sa.RowMapping], Item],
    *,
    newest: tuple[sa.Column[Any], ...],
    after: str | None,
    limit: int,
    noun: str,
) -> Page[Item]:
    """The rows of `mine` that are also `where`, largest `newest` first, those following `after`.

    Raises Invalid for a limit outside 1 to 200, NotFound for a cursor that is no id of `mine`.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"limit must be 1 to {MAX_PAGE}, not {limit}.", param="limit")
    query = mine.where(*where).order_by(*(column.desc() for column in newest)).limit(limit + 1)
    with database.read() as connection:
        if after is not None:
            named = mine.with_only_columns(*newest).where(newest[0].table.c.id == after)
            last = connection.execute(named).one_or_none()
            if last is None:
                raise NotFound(f"No {noun} {after[:80]!r} to continue after.", param="after")
            query = query.where(sa.tuple_(*newest) < sa.tuple_(*last))
        rows = connection.execute(query).mappings().all()
    return Page(tuple(read(row) for row in rows[:limit]), len(rows) > limit)
