"""The SQL rows of interactions and feedback: pure conversions, no connection.

Rows are made so that either database takes them: text fits its column and holds no NUL or lone
surrogate, JSON holds no NaN. One odd answer must not spoil a commit shared with others.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from core.text import fit
from feedback.tables import feedback, interactions
from feedback.types import Feedback, Interaction


def interaction_row(it: Interaction) -> dict[str, Any]:
    """The row of an interaction, less `seq`."""
    return _row(interactions, {name: getattr(it, name) for name in it.__slots__})


def feedback_row(item: Feedback) -> dict[str, Any]:
    """The row of a feedback item, less `seq` and the times."""
    values = {name: getattr(item, name) for name in item.__slots__ if not name.endswith("_at_s")}
    if isinstance(item.value, int | float) and not isinstance(item.value, bool):
        values["value"] = float(item.value)
    if item.comparison is not None:
        values["comparison"] = asdict(item.comparison)
    return _row(feedback, {**values, "kind": item.kind})


def _row(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    """The values, each text as its column can hold it; JSON is made by the database's own type."""
    for name, value in values.items():
        column = table.c[name].type
        if isinstance(value, str) and isinstance(column, sa.String):
            values[name] = fit(value, column.length or len(value))
    return values


def same_statement(left: Feedback, right: Feedback) -> bool:
    """Whether two items say the same, whenever they say it; unlike `==` it tells True from 1."""
    texts = [json.dumps(feedback_row(item), sort_keys=True) for item in (left, right)]
    return texts[0] == texts[1]
