"""One page of a list, as every store yields it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    query = mine.where(*where).order_by(*(column.desc() for column in newest)).limit(limit + 1)
    with database.read() as connection:
        last = place(connection, mine, newest, after, limit, noun)
        if last is not None:
            query = query.where(sa.tuple_(*newest) < sa.tuple_(*last))
        return page_of(connection.execute(query).mappings().all(), read, limit)


def place(
    connection: sa.Connection,
    mine: sa.Select[Any],
    newest: tuple[sa.Column[Any], ...],
    after: str | None,
    limit: int,
    noun: str,
) -> sa.Row[Any] | None:
    """Where the page following `after` begins, as values of `newest`; None: at the newest row.

    Raises as `read_page` does.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"limit must be 1 to {MAX_PAGE}, not {limit}.", param="limit")
    if after is None:
        return None
    named = mine.with_only_columns(*newest).where(newest[0].table.c.id == after)
    last = connection.execute(named).one_or_none()
    if last is None:
        raise NotFound(f"No {noun} {after[:80]!r} to continue after.", param="after")
    return last


def page_of(
    rows: Sequence[sa.RowMapping], read: Callable[[sa.RowMapping], Item], limit: int
) -> Page[Item]:
    """A page of rows of which there is one more than `limit` where another page follows."""
    return Page(tuple(read(row) for row in rows[:limit]), len(rows) > limit)
