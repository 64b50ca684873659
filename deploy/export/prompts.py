"""The prompts an export is verified with when a tenant has too few of its own.

The model's own regression questions come first, which it was made to answer, then everyday
requests (`prompts.txt`). Must not know models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trainer.judging.suite import load_suite

ENOUGH: Final = 50
"""Prompts a verification wants; with fewer of their own, tenants' are joined by shipped ones."""

Conversation = tuple[Mapping[str, Any], ...]

_EVERYDAY: Final = Path(__file__).with_name("prompts.txt")


def shipped_prompts(model: Path, count: int = ENOUGH) -> tuple[Conversation, ...]:
    """`count` conversations for the model in the folder `model`, the same every time.

    Raises Invalid if its regression.jsonl cannot be read.
    """
    suite = model / "regression.jsonl"
    own = [item.prompt for item in load_suite(suite)] if suite.is_file() else []
    everyday = [
        ({"role": "user", "content": text},)
        for text in _EVERYDAY.read_text(encoding="utf-8").splitlines()
    ]
    chats = [prompt for prompt in own if not isinstance(prompt, str)]
    return tuple([*chats, *everyday][:count])


def enough_prompts(
    own: Sequence[Conversation], source: str, model: Path
) -> tuple[tuple[Conversation, ...], str]:
    """The prompts to verify with and what to call their source: a tenant's own if there are
    enough, else these filled up with shipped ones."""
    if len(own) >= ENOUGH:
        return tuple(own), source
    if not own:
        return shipped_prompts(model), "shipped"
    return (*own, *shipped_prompts(model, ENOUGH - len(own))), f"{source}+shipped"
