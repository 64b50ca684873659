"""One page of a list, as every store yields it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from core.database import Database
from core.errors import Invalid, NotFound
from core.queries import aside, only

MAX_PAGE = 200

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list, newest first.

    `after`: the cursor of the next page, where it is not the last item's id.
    """

    items: tuple[Item, ...]
    has_more: bool
    after: str | None = None


def read_page(
    database: Database,
    table: sa.Table,
    owner: Mapping[str, str],
    mine: Mapping[str, str],
    where: Iterable[sa.ColumnElement[bool]],
    read: Callable[[sa.RowMapping], Item],
    *,
    newest: tuple[sa.Column[Any], ...],
    after: str | None,
    limit: int,
    noun: str,
) -> Page[Item]:
    """The owner's rows that are `mine` and also `where`, largest `newest` first, after `after`.

    `owner` and `mine` are columns and their values: those whose rows may be seen at all, and those
    that an index begins with which continues with `newest`. What is only `where` should be named
    aside. Raises Invalid for a limit outside 1 to 200, NotFound for a cursor that is not the
    owner's.
    """
    columns, values = [table.c[name] for name in mine], list(mine.values())
    others = [aside(table.c[name]) == value for name, value in owner.items() if name not in mine]
    first = only(columns[0], values[0])
    further = [column == value for column, value in zip(columns[1:], values[1:], strict=True)]
    query = sa.select(table).where(first, *further, *others, *where)
    with database.read() as connection:
        last = place(connection, table, owner, newest, after, limit, noun)
        if last is not None:
            query = query.where(sa.tuple_(*newest) < sa.tuple_(*last))
        order = (column.desc() for column in (columns[0], *newest))
        rows = connection.execute(query.order_by(*order).limit(limit + 1)).mappings().all()
    return page_of(rows, read, limit)


def place(
    connection: sa.Connection,
    table: sa.Table,
    owner: Mapping[str, str],
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
    named = sa.select(*newest).where(table.c.id == after)
    for name, value in owner.items():
        named = named.where(table.c[name] == value)
    last = connection.execute(named).one_or_none()
    if last is None:
        raise NotFound(f"No {noun} {after[:80]!r} to continue after.", param="after")
    return last


def page_of(
    rows: Sequence[sa.RowMapping], read: Callable[[sa.RowMapping], Item], limit: int
) -> Page[Item]:
    """A page of rows of which there is one more than `limit` where another page follows."""
    return Page(tuple(read(row) for row in rows[:limit]), len(rows) > limit)
