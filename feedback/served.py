"""The tokens of one answered request: what the model read and what it sampled, and their bytes.

Owns the form they are stored in. Must not know: tokenizers, texts, what ids mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core.errors import Invalid
from feedback.token_ids import pack_ids, unpack_ids

_FORMAT = 1
_DAMAGED = "The stored tokens of an answer are damaged."


@dataclass(frozen=True, slots=True)
class ServedChoice:
    """What was sampled for one choice: every id, the end token included where it was sampled.

    `prompt` is the place of the prompt it answers. `finish_reason` and `stop_reason` are the
    engine's own: a cut answer has "length"; None is one that was broken off.
    """

    prompt: int
    token_ids: tuple[int, ...]
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """One request: the ids of each prompt, in the request's order, and of each choice by index."""

    prompts: tuple[tuple[int, ...], ...]
    choices: tuple[ServedChoice, ...]

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        """The ids that the choice of that index was sampled after."""
        return self.prompts[self.choices[choice].prompt]


def pack(served: Served) -> bytes:
    """Its bytes: two an id where a list's all fit, else four, and a few more for each list.

    Raises Invalid for an id that is negative or too large.
    """
    prompts = [pack_ids(ids) for ids in served.prompts]
    choices = [
        [choice.prompt, pack_ids(choice.token_ids), choice.finish_reason, choice.stop_reason]
        for choice in served.choices
    ]
    return msgspec.msgpack.encode([_FORMAT, prompts, choices])


def unpack(data: bytes) -> Served:
    """What `pack` was given. Raises Invalid for bytes that it did not make."""
    try:
        kind, prompts, choices = msgspec.msgpack.decode(data)
        if kind != _FORMAT:
            raise Invalid(_DAMAGED)
        served = Served(
            tuple(map(_ids, prompts)),
            tuple(ServedChoice(prompt, _ids(ids), *why) for prompt, ids, *why in choices),
        )
        if not all(0 <= choice.prompt < len(served.prompts) for choice in served.choices):
            raise Invalid(_DAMAGED)
        return served
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise Invalid(_DAMAGED) from error


def _ids(packed: bytes) -> tuple[int, ...]:
    return tuple(unpack_ids(packed))
