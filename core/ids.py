"""Typed ids, and the one parser through which names from outside pass before they become
engine names, paths or rows."""

from __future__ import annotations

import re
import secrets
from typing import NewType

from core.errors import Invalid

TenantId = NewType("TenantId", str)
AdapterId = NewType("AdapterId", str)
FeedbackId = NewType("FeedbackId", str)
CompletionId = NewType("CompletionId", str)
Digest = NewType("Digest", str)
"""Lower-case hex SHA-256, 64 characters."""

NAME_PATTERN = "[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?"
"""What a name looks like, but for `..` and the reserved words."""

_NAME = re.compile(NAME_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")
DEVICE_PATTERN = "[0-9a-f]{32}"
"""What a device's id looks like."""

_DEVICE = re.compile(DEVICE_PATTERN)
_FREE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def new_id(prefix: str) -> str:
    """`prefix_` and 24 random hex digits (96 bits)."""
    return f"{prefix}_{secrets.token_hex(12)}"


def parse_name(text: str, *, what: str = "name") -> str:
    """A tenant or adapter name: 1-64 of `a-z 0-9 . _ -`, first and last a letter or digit.

    Raises Invalid for anything else, for `..` and for the reserved words `auto` and `base`.
    """
    if not _NAME.fullmatch(text) or ".." in text:
        raise Invalid(
            f"The {what} {text[:80]!r} is not valid: use 1 to 64 lower-case letters, digits, "
            "'.', '_' or '-', beginning and ending with a letter or digit.",
            param=what,
        )
    if text in ("auto", "base"):
        raise Invalid(f"The {what} {text!r} is reserved; choose another.", param=what)
    return text


def parse_digest(text: str) -> Digest:
    """A SHA-256 in lower-case hex; Invalid otherwise."""
    if not _DIGEST.fullmatch(text):
        raise Invalid("A digest is 64 lower-case hex digits (SHA-256).", param="digest")
    return Digest(text)


def parse_device(text: str) -> str:
    """The id a device gave itself: a UUID's 32 lower-case hex digits. Invalid otherwise."""
    if not _DEVICE.fullmatch(text):
        raise Invalid(
            "device must be the 32 lower-case hex digits of a UUID; `attune edge info DIR` shows "
            "them.",
            param="device",
        )
    return text


def parse_client_id(text: str, *, what: str = "id") -> str:
    """An id a client chose for itself: 1-128 of letters, digits and `. _ : -`."""
    if not _FREE_ID.fullmatch(text):
        raise Invalid(
            f"The {what} must be 1 to 128 letters, digits or '._:-', beginning with a letter "
            "or digit.",
            param=what,
        )
    return text
