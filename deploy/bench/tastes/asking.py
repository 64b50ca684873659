"""Questions put to the base or an adapter through the trainer's sampler, at a chat's temperature.

The sampler and not a server: hundreds of answers in one batch after another, on the weights that
were trained. Must not know: tastes, thumbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.bench.tastes.judges import Said
from feedback.types import Message

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True)
class Received:
    """An answer, with the tokens it was sampled as, the end token included if it ended."""

    question: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    said: Said


def ask(
    model: WarmModel,
    chats: Sequence[tuple[Message, ...]],
    adapter: Path | None,
    *,
    tokens: int,
    seed: int,
) -> list[Received]:
    """One answer of at most `tokens` to each chat; the same arguments give the same answers."""
    from trainer.model.encoding import encode_prompt
    from trainer.model.sampling import answers

    heads = [tuple(encode_prompt(model.tokenizer, chat)) for chat in chats]
    given = answers(model, heads, adapter, TEMPERATURE, tokens, seed)
    return [
        Received(str(chat[-1]["content"]), head, answer.ids, Said(answer.text, answer.ended))
        for chat, head, answer in zip(chats, heads, given, strict=True)
    ]


def plain(question: str) -> tuple[Message, ...]:
    """A chat that is the question alone."""
    return ({"role": "user", "content": question},)
