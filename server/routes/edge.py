"""POST /v1/edge/sync: answers and feedback that a device collected while it was offline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request

from core.clock import now_s
from core.error_body import error_body
from core.errors import AttuneError, Conflict, TooLarge
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.receivers.device import MAX_BYTES, parse_device, parse_item, parse_items
from feedback.rows import same_statement
from feedback.types import Feedback, Interaction
from server import metrics
from server.answers.completion_ids import PREFIXES
from server.routes.by_hand import json_object, key_with, runtime_of, take
from server.runtime import Runtime

router = APIRouter()

_TYPES = ("interaction", "feedback")


@router.post("/v1/edge/sync")
async def sync(request: Request) -> dict[str, Any]:
    """Store a device's items durably before answering; the same item again changes nothing.

    Each item is stored, was stored already, or is rejected with the reason; the others stay. 400
    beyond 200 items, 413 beyond 4 MB.
    """
    key = key_with(request, "feedback")
    runtime = runtime_of(request)
    if len(await request.body()) > MAX_BYTES:
        raise TooLarge(f"At most {MAX_BYTES:,} bytes a call: send fewer items.", code="too_large")
    body = await json_object(request)
    take(body, ("device", "items"))
    device, items = parse_device(body.get("device")), parse_items(body.get("items"))
    results = await asyncio.to_thread(_store, runtime, key.tenant_id, device, items)
    return {"object": "edge.sync", "results": results}


@dataclass(slots=True)
class _TenantsOwn:
    """What parsing asks about one tenant; adapters are looked up once a call."""

    runtime: Runtime
    tenant_id: TenantId
    device: str
    known: dict[tuple[str, int | None], AdapterId] = field(default_factory=dict)

    def completion_id(self, edge_id: str) -> CompletionId:
        token = self.runtime.signer.derived(self.tenant_id, self.device, edge_id)
        return CompletionId(PREFIXES["chat.completions"] + token)

    def issued(self, completion_id: str) -> bool:
        return self.runtime.signer.issued_to(completion_id, self.tenant_id)

    def adapter_id(self, name: str, version: int | None) -> AdapterId:
        if (name, version) not in self.known:
            adapter = self.runtime.registry.get(self.tenant_id, name)
            if version is not None:
                self.runtime.registry.version(adapter.id, version)
            self.known[name, version] = adapter.id
        return self.known[name, version]


def _store(
    runtime: Runtime, tenant_id: TenantId, device: str, items: Sequence[Any]
) -> list[dict[str, Any]]:
    lookup = _TenantsOwn(runtime, tenant_id, device)
    at_s = now_s()
    parsed: list[Interaction | Feedback | AttuneError] = []
    for item in items:
        try:
            parsed.append(
                parse_item(item, tenant_id=tenant_id, device=device, now_s=at_s, lookup=lookup)
            )
        except AttuneError as error:
            parsed.append(error)
    answers = [item for item in parsed if isinstance(item, Interaction)]
    seen = set(runtime.interactions.stored(tenant_id, [answer.id for answer in answers]))
    # An answer told before stays as it was: neither its row nor what is learnt from it may change.
    new = {answer.id: answer for answer in reversed(answers) if answer.id not in seen}
    runtime.interactions.append(list(reversed(new.values())))
    results = []
    for sent, item in zip(items, parsed, strict=True):
        result: dict[str, Any] = {"seq": _of(sent, "seq", int)}
        if isinstance(item, Interaction):
            result |= {"id": item.id, "status": "already_stored" if item.id in seen else "stored"}
            seen.add(item.id)
        elif isinstance(item, Feedback):
            try:
                result |= {"id": item.id, "status": _put(runtime, item)}
            except AttuneError as error:
                result |= _rejected(error)
        else:
            result |= _rejected(item)
        kind = _of(sent, "type", str)
        metrics.EDGE_ITEMS.labels(kind if kind in _TYPES else "unknown", result["status"]).inc()
        results.append(result)
    return results


def _put(runtime: Runtime, item: Feedback) -> str:
    """Store one feedback item unless the same, or something newer, is there under its id.

    Raises Conflict if the id is taken by feedback on another answer.
    """
    for old in _existing(runtime, item.tenant_id, item.id):
        if old.completion_id != item.completion_id:
            # Devices cannot know of one another's ids: neither may lose what was said.
            raise Conflict(
                f"Feedback '{item.id}' is about another answer already. Give each its own id.",
                param="id",
            )
        if same_statement(old, item) or old.said_at_s > item.said_at_s:
            return "already_stored"
    kept, created = runtime.feedback.put(item, newest_wins=True)
    if not same_statement(kept, item):
        return "already_stored"  # something newer came in between
    if created:
        metrics.FEEDBACK.labels(item.kind).inc()
    return "stored"


def _existing(runtime: Runtime, tenant_id: TenantId, feedback_id: FeedbackId) -> list[Feedback]:
    try:
        return [runtime.feedback.get(tenant_id, feedback_id)]
    except AttuneError:
        return []


def _rejected(error: AttuneError) -> dict[str, Any]:
    return {"status": "rejected", "error": error_body(error).model_dump()}


def _of(item: Any, name: str, kind: type) -> Any:
    value = item.get(name) if isinstance(item, dict) else None
    return value if type(value) is kind else None
