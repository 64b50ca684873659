"""What the base model can be trained on: not too long, nothing its chat template refuses.

Must not know: weights, torch, what the examples are for.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from core.errors import Invalid
from trainer.model.encoding import encode
from trainer.types import Prompt

_MARGIN = 16
_TURN = 16
"""Tokens a template puts around one message, generously."""


class Lengths:
    """Why an answer to a prompt cannot be trained on with this tokenizer, if it cannot."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length

    def __call__(self, prompt: Prompt, answer: str, counted: int | None) -> str | None:
        """`too_long`, `refused_by_template` or None, as the training loop itself would find.

        Most are told apart without tokens being made: `counted` is what the engine counted, with
        the same template and an answer that may be split a little differently when it is read
        again; and no token is shorter than a byte.
        """
        if counted is not None and counted + counted // 8 + _MARGIN <= self._max_length:
            return None
        turns = [prompt] if isinstance(prompt, str) else [str(m.get("content")) for m in prompt]
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in (*turns, answer))
        if size + self._frame_tokens + _TURN * len(turns) <= self._max_length and _plain(prompt):
            return None
        try:
            tokens = encode(self._tokenizer, prompt, answer)
        except Invalid:
            return "refused_by_template"
        return "too_long" if sum(map(len, tokens)) > self._max_length else None

    @cached_property
    def _frame_tokens(self) -> int:
        """What the template adds to the shortest talk there is."""
        prompt = ({"role": "user", "content": "."},)
        return sum(map(len, encode(self._tokenizer, prompt, ".")))


def _plain(prompt: Prompt) -> bool:
    """Whether no template refuses it: text, or one message of a user."""
    return isinstance(prompt, str) or [m.get("role") for m in prompt] == ["user"]
