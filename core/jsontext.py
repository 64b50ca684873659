"""JSON as it is stored: quickly, and so that either database and any reader takes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

_ENCODE = msgspec.json.Encoder().encode
_PLAIN = (str, int, bool, type(None))


def json_text(value: Any) -> str:
    """The JSON of `value`: lists for tuples, objects for mappings, null for NaN and infinities.

    Raises TypeError for what is none of these.
    """
    try:
        return _ENCODE(value).decode()  # several times as quick as json
    except (UnicodeEncodeError, TypeError):  # a lone surrogate; a mapping that is no dict
        return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]
