"""Names people give: in any language, one spelling each. Pure.

Owns which characters a name may hold and that two ways of writing one name are one name: of end
users, domains, conversations and labels. Names that become paths or engine names are narrower:
`core.ids`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from core.errors import Invalid
from core.shown import BIDI

MAX_NAME = 256
"""The longest name, in characters."""

_REFUSED = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029{BIDI}\ud800-\udfff]")
_GROWTH = 4
"""No text has more than four times the characters of its NFC; longer is not even normalised, which
takes quadratic time for a run of accents."""


def parse_title(text: str) -> str:
    """A name as it is kept and compared: in NFC, so that `ü` is one character however typed.

    Joiners stay: Hindi, Persian and emoji need them. Raises ValueError with the rule for control
    and bidirectional formatting characters, for half a UTF-16 pair and for what is too long.
    """
    if len(text) <= MAX_NAME * _GROWTH and not _REFUSED.search(text):
        title = unicodedata.normalize("NFC", text)
        if len(title) <= MAX_NAME:
            return title
    raise ValueError(
        f"use at most {MAX_NAME} characters of any language, without control or "
        "text-direction characters"
    )


Title = Annotated[
    str,
    AfterValidator(parse_title),
    Field(min_length=1, json_schema_extra={"maxLength": MAX_NAME}),
]
"""A name in a body."""


def title_of(sent: object, param: str) -> str | None:
    """What a caller says under `param`; None for nothing. Raises Invalid for what is no name."""
    if sent is None or sent == "":
        return None
    if not isinstance(sent, str):
        raise Invalid(f"{param} must be a string.", param=param)
    try:
        return parse_title(sent)
    except ValueError as error:
        raise Invalid(f"{param}: {error}.", param=param) from error


def title_in_header(raw: bytes, header: str) -> str | None:
    """The name in a header's bytes, UTF-8. Raises Invalid naming the header."""
    try:
        return title_of(raw.decode(), header)
    except UnicodeDecodeError as error:
        raise Invalid(
            f"{header} is not UTF-8. Send the name as UTF-8 bytes, or in the body, under metadata.",
            param=header,
        ) from error


def one_spelling(text: str | None) -> str | None:
    """A stored name as it is looked up by; too long for one, as it is: there is none such."""
    if text is None or len(text) > MAX_NAME * _GROWTH:
        return text
    return unicodedata.normalize("NFC", text)
