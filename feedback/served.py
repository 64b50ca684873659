"""The tokens of one answered request: what the model read and what it sampled, and their bytes.

Owns the form they are stored in. Must not know: tokenizers, texts, what ids mean.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from core.errors import Invalid

Ids = tuple[int, ...]
"""Token ids, each from 0 to 2^32 - 1."""

_FORMAT = 1
_SHORT, _LONG = "H", "I"  # two or four bytes an id, the lowest byte first
_DAMAGED = "The stored tokens of an answer are damaged."


@dataclass(frozen=True, slots=True)
class ServedChoice:
    """What was sampled for one choice: every id, the end token included where it was sampled.

    `prompt` is the place of the prompt it answers. `finish_reason` and `stop_reason` are the
    engine's own: a cut answer has "length"; None is one that was broken off.
    """

    prompt: int
    token_ids: Ids
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """One request: the ids of each prompt, in the request's order, and of each choice by index."""

    prompts: tuple[Ids, ...]
    choices: tuple[ServedChoice, ...]

    def prompt_of(self, choice: int) -> Ids:
        """The ids that the choice of that index was sampled after."""
        return self.prompts[self.choices[choice].prompt]


def pack(served: Served) -> bytes:
    """Its bytes: two an id where all fit, else four, and a few more for each prompt and choice.

    Raises Invalid for an id that is negative or too large.
    """
    lists = [*served.prompts, *(choice.token_ids for choice in served.choices)]
    width = _SHORT if max((max(ids, default=0) for ids in lists), default=0) < 2**16 else _LONG
    prompts = [_packed(ids, width) for ids in served.prompts]
    choices = [
        [choice.prompt, _packed(choice.token_ids, width), choice.finish_reason, choice.stop_reason]
        for choice in served.choices
    ]
    return msgspec.msgpack.encode([_FORMAT, width, prompts, choices])


def unpack(data: bytes) -> Served:
    """What `pack` was given. Raises Invalid for bytes that it did not make."""
    try:
        kind, width, prompts, choices = msgspec.msgpack.decode(data)
        if kind != _FORMAT or width not in (_SHORT, _LONG):
            raise Invalid(_DAMAGED)
        served = Served(
            tuple(_unpacked(ids, width) for ids in prompts),
            tuple(
                ServedChoice(prompt, _unpacked(ids, width), *why) for prompt, ids, *why in choices
            ),
        )
        if not all(0 <= choice.prompt < len(served.prompts) for choice in served.choices):
            raise Invalid(_DAMAGED)
        return served
    except (msgspec.DecodeError, struct.error, ValueError, TypeError) as error:
        raise Invalid(_DAMAGED) from error


def _packed(ids: Sequence[int], width: str) -> bytes:
    try:
        return struct.pack(f"<{len(ids)}{width}", *ids)
    except struct.error as error:
        raise Invalid("Token ids are whole numbers from 0 to 4,294,967,295.") from error


def _unpacked(data: bytes, width: str) -> Ids:
    return struct.unpack(f"<{len(data) // struct.calcsize(width)}{width}", data)
