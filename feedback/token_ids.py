"""A list of token ids in little room: what is held of a hundred thousand answers, and stored.

Must not know: whose ids they are, tokenizers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from core.errors import Invalid

Ids = Sequence[int]
"""Token ids, each from 0 to 2^32 - 1."""

_SHORT, _LONG = b"H", b"I"  # two or four bytes an id, the lowest byte first


def pack_ids(ids: Ids) -> bytes:
    """Equal exactly for equal ids: two bytes each where all fit, else four, after one that says so.

    Raises Invalid for an id that is negative or too large.
    """
    width = _SHORT if max(ids, default=0) < 2**16 else _LONG
    try:
        return width + struct.pack(f"<{len(ids)}{width.decode()}", *ids)
    except struct.error as error:
        raise Invalid("Token ids are whole numbers from 0 to 4,294,967,295.") from error


def unpack_ids(packed: bytes) -> list[int]:
    """What `pack_ids` was given. Raises Invalid for bytes that it did not make."""
    width, data = packed[:1], packed[1:]
    try:
        if width not in (_SHORT, _LONG):
            raise Invalid("The stored token ids are damaged.")
        return list(struct.unpack(f"<{len(data) // struct.calcsize(width)}{width.decode()}", data))
    except struct.error as error:
        raise Invalid("The stored token ids are damaged.") from error
