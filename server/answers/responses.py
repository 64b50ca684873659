"""A recorded response as the API gives it back: what it was asked, and what the next turn reads.

A response is an interaction whose `document` is the response object as the client got it; its
prompt is the whole input the model read, so that one record tells a conversation of any length.
Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.ids import CompletionId, TenantId
from feedback.interactions import InteractionStore
from feedback.types import Interaction
from server.answers.completion_ids import IdSigner
from server.pools import RESPONSES, run_in

Item = Mapping[str, Any]


class StoredResponses:
    """The responses that can be fetched by their ids. Unavailable is raised while the database is
    away."""

    def __init__(self, interactions: InteractionStore, signer: IdSigner) -> None:
        self._interactions = interactions
        self._signer = signer

    async def look(self, tenant_id: TenantId, response_id: str) -> Interaction | None:
        """`find`, in a thread."""
        return await run_in(RESPONSES, self.find, tenant_id, response_id)

    def find(self, tenant_id: TenantId, response_id: str) -> Interaction | None:
        """The tenant's response of that id; whatever else the id is, there is none."""
        if not self._signer.issued_to(response_id, tenant_id):
            return None
        return self._interactions.fetchable(tenant_id, CompletionId(response_id))

    def delete(self, tenant_id: TenantId, response_id: str) -> bool:
        """Erase it; False if there is none."""
        if not self._signer.issued_to(response_id, tenant_id):
            return False
        return self._interactions.delete(tenant_id, CompletionId(response_id))


def input_of(answered: Interaction) -> list[Item]:
    """The items the model read, those of earlier turns included; instructions are no item."""
    document, prompt = answered.document or {}, answered.prompt
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    items = [item for item in prompt if isinstance(item, Mapping)]
    return items[1:] if document.get("instructions") else items


def continued(before: Interaction, new: str | Sequence[Any] | None) -> list[Any]:
    """The input of the turn after `before`: all that was said, then what is `new`.

    Instructions are not carried over: they are said anew with each turn, as OpenAI has it.
    """
    said = [*input_of(before), *(before.document or {}).get("output", ())]
    if new is None:
        return said
    return [*said, *([{"role": "user", "content": new}] if isinstance(new, str) else new)]


def shown_items(answered: Interaction) -> list[dict[str, Any]]:
    """Its input as the list of input items shows it: each with an id, its text in parts."""
    stem = answered.id.partition("_")[2]
    seen: set[Any] = set()
    shown = []
    for number, item in enumerate(input_of(answered)):
        own = item.get("id")
        name = own if isinstance(own, str) and own not in seen else f"item_{stem}_{number}"
        seen.add(name)
        shown.append({**_in_parts(item), "id": name})
    return shown


def _in_parts(item: Item) -> Item:
    if "role" not in item:
        return item
    content = item.get("content")
    if isinstance(content, str):
        answered = item["role"] == "assistant"
        part = {"type": "output_text" if answered else "input_text", "text": content}
        content = [{**part, "annotations": []} if answered else part]
    return {"type": "message", "status": "completed", **item, "content": content}
