"""Text and JSON as either database, any reader and any terminal takes them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from core.errors import Invalid

_ENCODE = msgspec.json.Encoder().encode
_PLAIN = (str, int, bool, type(None))
_UNSTORABLE = {0: "\ufffd"} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""For `str.translate`: NUL, which Postgres refuses, and lone surrogates."""

BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""What turns the direction of text, for a regular expression's brackets."""

_UNSEEN = re.compile(
    f"[\\x00-\\x1f\\x7f-\\x9f\ud800-\udfff{BIDI}"
    # Invisible, or a line break to some: soft hyphen, zero width, separators, fillers, tags.
    "\u00ad\u115f\u1160\u180e\u200b\u2028\u2029\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
    # Joiners have a meaning between letters that join, and between emoji, not beside Latin ones.
    "|(?<=[\\x00-\u024f])[\u200c\u200d]|[\u200c\u200d](?=[\\x00-\u024f])"
)
_LATIN = re.compile("[\\x00-\u024f]")


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


def shown(text: str, *, lines: bool = False) -> str:
    """`text` for a terminal or a log: what it would obey, or nobody could see, is spelt out.

    An escape sequence reads `\\x1b[31m`, a line break `\\n`; with `lines` breaks and tabs stay.
    Nothing is left that moves the cursor, colours, links, turns the direction or forges a line.
    """
    return _UNSEEN.sub(_spelt_in_lines if lines else _spelt, text)


def _spelt(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _spelt_in_lines(match: re.Match[str]) -> str:
    beside = match.string[max(0, match.start() - 1) : match.end() + 1]
    # Khmer and Thai mark where a line may end by a space of no width.
    marks_a_line_end = match.group() == "\u200b" and not _LATIN.search(beside)
    return match.group() if match.group() in "\n\t" or marks_a_line_end else _spelt(match)
