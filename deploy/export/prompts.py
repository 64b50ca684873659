"""The prompts an export is verified with: a tenant's own where there are enough, else shipped ones.

Shipped are first the model's own regression questions, which it was made to answer, then everyday
requests (`prompts.txt`). A tenant's own never leave the verification. Must not know models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeGuard

from core.ids import AdapterId, CompletionId, TenantId
from core.page import MAX_PAGE
from feedback.history import Wanted
from feedback.interactions import InteractionStore
from feedback.types import Interaction, Message
from trainer.judging.suite import load_suite

ENOUGH: Final = 50
"""Prompts a verification wants."""

Conversation = tuple[Message, ...]

_EVERYDAY: Final = Path(__file__).with_name("prompts.txt")
_MOST = 64
_LOOKED_AT = 2_000
_MAX_CHARACTERS = 4_000
_MAX_MESSAGES = 16
_ROLES = ("system", "user", "assistant")


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
    own: Sequence[Conversation], model: Path
) -> tuple[tuple[Conversation, ...], str]:
    """The prompts to verify with and what to call their source: a tenant's own if there are
    enough, else these filled up with shipped ones."""
    if len(own) >= ENOUGH:
        return tuple(own), "tenant"
    shipped = shipped_prompts(model, ENOUGH - len(own))
    return (*own, *shipped), "tenant+shipped" if own else "shipped"


def own_prompts(
    log: InteractionStore, tenant_id: TenantId, adapter_id: AdapterId | None
) -> tuple[Conversation, ...]:
    """At most 64 of the newest prompts that were answered, each once; none if there are under 50.

    The adapter's own come first; where they are too few, those of the whole tenant. Only chats
    of plain text that end with the user's turn, of 16 messages and 4,000 characters at most.
    """
    for scope in dict.fromkeys((adapter_id, None)):
        found = _newest(log, tenant_id, scope)
        if len(found) >= ENOUGH:
            return found
    return ()


def _newest(
    log: InteractionStore, tenant_id: TenantId, adapter_id: AdapterId | None
) -> tuple[Conversation, ...]:
    found: dict[str, Conversation] = {}
    after = None
    wanted = Wanted(adapter_id=adapter_id, outcome="completed")
    for _ in range(_LOOKED_AT // MAX_PAGE):
        page = log.list(tenant_id, wanted, after=after, limit=MAX_PAGE)
        for interaction in page.items:
            prompt = _usable(interaction)
            if prompt is not None:
                found.setdefault(json.dumps(prompt, sort_keys=True), prompt)
        if len(found) >= _MOST or not page.has_more:
            break
        after = CompletionId(page.after or page.items[-1].id)
    return tuple(found.values())[:_MOST]


def _usable(interaction: Interaction) -> Conversation | None:
    prompt = interaction.prompt
    if isinstance(prompt, str) or not 1 <= len(prompt) <= _MAX_MESSAGES:
        return None
    told = tuple(message for message in prompt if _is_plain(message))
    if len(told) < len(prompt) or told[-1]["role"] != "user":
        return None
    if sum(len(message["content"]) for message in told) > _MAX_CHARACTERS:
        return None
    return tuple({"role": m["role"], "content": m["content"]} for m in told)


def _is_plain(message: object) -> TypeGuard[Message]:
    if not isinstance(message, Mapping):
        return False
    content = message.get("content")
    return message.get("role") in _ROLES and isinstance(content, str) and bool(content.strip())
