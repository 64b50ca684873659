"""JSON from strangers: one object that every reader understands alike, or an error. Pure."""

from __future__ import annotations

import json
from typing import Any


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw` (UTF-8).

    Raises ValueError for anything else, for a name given twice, for NaN and the infinities
    (which are not JSON) and for nesting too deep to read.
    """
    try:
        parsed = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_not_json
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    return parsed


def require_small(value: Any, *, depth: int, items: int, characters: int) -> None:
    """Raises ValueError for JSON nested deeper than `depth`, with a list or an object of more than
    `items`, or with a text or a name of more than `characters`."""
    level, rest = 0, [value]
    while rest:
        if level > depth:
            raise ValueError(f"nested more than {depth} deep")
        inside: list[Any] = []
        for one in rest:
            if isinstance(one, dict):
                inside += [*one, *one.values()]
            elif isinstance(one, list):
                inside += one
            elif isinstance(one, str) and len(one) > characters:
                raise ValueError(f"a text of more than {characters:,} characters")
            if isinstance(one, dict | list) and len(one) > items:
                raise ValueError(f"more than {items:,} entries in one place")
        level, rest = level + 1, inside


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
