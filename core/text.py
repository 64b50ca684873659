"""Text as either database takes it."""

from __future__ import annotations

import hashlib

_UNSTORABLE = {0: "\ufffd"} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def storable(text: str) -> str:
    """`text` without NUL, which Postgres refuses, and lone surrogates."""
    return text.translate(_UNSTORABLE)


def fit(text: str, limit: int) -> str:
    """`text` as a column of `limit` characters can hold it.

    Longer text keeps its beginning and ends in a hash of the whole, so that two different long
    values (two users, say) stay different.
    """
    text = storable(text)
    if len(text) <= limit:
        return text
    return text[: limit - 17] + "~" + hashlib.sha256(text.encode()).hexdigest()[:16]
