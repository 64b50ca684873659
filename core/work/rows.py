"""Between pieces of work and their SQL rows: pure conversions, no connection."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from core.work.tables import QUERIED
from core.work.types import Facts, Work


def columns_of(facts: Any) -> dict[str, Any]:
    """The facts as columns: those that are queried each its own, the others as one JSON."""
    values = msgspec.to_builtins(facts)
    columns = {name: values.pop(name) for name in QUERIED if name in values}
    return {**columns, "facts": values}


def work_of(row: sa.RowMapping, facts: type[Facts]) -> Work[Facts]:
    """The piece of a row."""
    values = {name: row[name] for name in Work.__slots__}
    known = {**row["facts"], **{name: row[name] for name in QUERIED}}
    values["facts"] = msgspec.convert(known, facts)
    return Work(**values)
