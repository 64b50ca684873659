"""Which of a tenant's own prompts an export is verified with. They never leave the verification."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core.ids import AdapterId, TenantId
from core.page import MAX_PAGE
from feedback.interactions import InteractionStore
from feedback.types import Interaction, Message

ENOUGH = 50
_MOST = 64
_LOOKED_AT = 2_000
_MAX_CHARACTERS = 4_000
_MAX_MESSAGES = 16
_ROLES = ("system", "user", "assistant")


def own_prompts(
    log: InteractionStore, tenant_id: TenantId, adapter_id: AdapterId | None
) -> tuple[tuple[Message, ...], ...]:
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
) -> tuple[tuple[Message, ...], ...]:
    found: dict[str, tuple[Message, ...]] = {}
    after = None
    for _ in range(_LOOKED_AT // MAX_PAGE):
        page = log.list(
            tenant_id, adapter_id=adapter_id, outcome="completed", after=after, limit=MAX_PAGE
        )
        for interaction in page.items:
            prompt = _usable(interaction)
            if prompt is not None:
                found.setdefault(json.dumps(prompt, sort_keys=True), prompt)
            if len(found) == _MOST:
                return tuple(found.values())
        if not page.has_more:
            break
        after = page.items[-1].id
    return tuple(found.values())


def _usable(interaction: Interaction) -> tuple[Message, ...] | None:
    prompt = interaction.prompt
    if isinstance(prompt, str) or not 1 <= len(prompt) <= _MAX_MESSAGES:
        return None
    if not all(_is_plain(message) for message in prompt) or prompt[-1]["role"] != "user":
        return None
    if sum(len(message["content"]) for message in prompt) > _MAX_CHARACTERS:
        return None
    return tuple({"role": m["role"], "content": m["content"]} for m in prompt)


def _is_plain(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return message.get("role") in _ROLES and isinstance(content, str) and bool(content.strip())
