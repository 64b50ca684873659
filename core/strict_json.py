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


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
