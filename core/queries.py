"""Parts of queries that leave a planner no choice, whatever its statistics say.

Knows no table. Where a way of saying something has one meaning and two plans, the plan that is
wanted is said here, once for both databases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from core.database import Database
from core.text import json_text


def aside(column: sa.Column[str]) -> sa.ColumnElement[str]:
    """A text column as a condition that no plan may begin with.

    A planner without statistics takes every index for equally good, so that a query which names
    one answer and its tenant may read all of the tenant's. What leaves least is named as it is,
    what only must hold as well is named aside: no index has this expression.
    """
    return column.concat("")


class only(FunctionElement[bool]):
    """`only(column, value)`: an equality, for a query that is ordered by the column, then another.

    Of a plain one Postgres may think that such rows are frequent, so that the order's own index
    soon meets some, and then search that to the end. For an array it leaves the column in the
    order, which is that of the index that begins with it.
    """

    type = sa.types.NullType()  # type: ignore[assignment]  # SQLite would compare a boolean with 1
    inherit_cache = True


@compiles(only)
def _equals(element: only, compiler: Any, **options: Any) -> str:
    column, value = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = {value}"


@compiles(only, "postgresql")
def _equals_any(element: only, compiler: Any, **options: Any) -> str:
    column, value = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = ANY (ARRAY[{value}])"


class among(FunctionElement[bool]):
    """`among(column, listed(name, item))`: the column is one of a list that is one parameter.

    A list of many parameters is text that is built, and taken apart by the driver, at each query.
    """

    type = sa.types.NullType()  # type: ignore[assignment]  # as of `only`
    inherit_cache = True


@compiles(among)
def _in_json(element: among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(among, "postgresql")
def _in_array(element: among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = ANY ({values})"


def listed(name: str, item: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    """The parameter of `among`: a list of `item`s."""
    return sa.bindparam(name, type_=_Listed(item))


class _Listed(sa.types.TypeDecorator[Any]):
    """JSON for SQLite, an array for Postgres."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, item: sa.types.TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "sqlite":
            return sa.Text()
        array: sa.types.TypeEngine[Any] = sa.ARRAY(self.item)
        return dialect.type_descriptor(array)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return json_text(list(value)) if dialect.name == "sqlite" else list(value)


def each(database: Database, values: Mapping[Any, int]) -> sa.TableValuedAlias:
    """The values as a table with the columns `key` and `value` (as text on Postgres)."""
    listed = sa.bindparam("each", json_text(values), sa.Text)
    if database.is_sqlite:
        return sa.func.json_each(listed).table_valued("key", "value")
    return sa.func.json_each_text(sa.cast(listed, sa.JSON)).table_valued("key", "value")
