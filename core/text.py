"""Text and JSON as either database and any reader takes them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from core.errors import Invalid

_ENCODE = msgspec.json.Encoder().encode
_PLAIN = (str, int, bool, type(None))
_UNSTORABLE = {0: "\ufffd"} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""For `str.translate`: NUL, which Postgres refuses, and lone surrogates."""


def fit(text: str, limit: int) -> str:
    """`text` as a column of `limit` characters can hold it.

    Longer text keeps its beginning and ends in a hash of the whole, so that two different long
    values (two users, say) stay different.
    """
    text = text.translate(_UNSTORABLE)
    if len(text) <= limit:
        return text
    return text[: limit - 17] + "~" + hashlib.sha256(text.encode()).hexdigest()[:16]


def json_text(value: Any) -> str:
    """The JSON of `value`: lists for tuples, objects for mappings, null for NaN and infinities.

    Raises TypeError for what is none of these.
    """
    try:
        return _ENCODE(value).decode()  # several times as quick as json
    except (UnicodeEncodeError, TypeError):  # a lone surrogate; a mapping that is no dict
        return json.dumps(_plain(value))


def json_value(text: str | bytes) -> Any:
    """What `json_text` and the databases wrote; also what earlier releases did, with json."""
    try:
        return msgspec.json.decode(text)  # several times as quick as json
    except msgspec.MsgspecError:  # a lone surrogate, a number beyond a float
        return json.loads(text)


def _plain(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]


def decoded(raw: bytes) -> Any:
    """The JSON value of a body. Raises Invalid."""
    try:
        return msgspec.json.decode(raw)  # several times as quick as json
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"The request body is not valid JSON: {error}."
        raise Invalid(message, code="invalid_json") from error
