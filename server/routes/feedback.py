"""POST, GET and DELETE /v1/feedback: what users think of the answers they got."""

from __future__ import annotations

import asyncio
from typing import Any, cast, get_args

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from core.clock import iso, now_s
from core.errors import Invalid, NotFound
from core.ids import CompletionId, FeedbackId
from core.page import Page
from feedback.receivers.native import parse_feedback
from feedback.store import FeedbackFilter
from feedback.types import Feedback, Kind
from server import metrics
from server.routes.by_hand import json_object, key_with, limit_of, page, runtime_of

router = APIRouter()


@router.post("/v1/feedback")
async def give_feedback(request: Request) -> JSONResponse:
    """Store one item durably before answering; the same id again is an update, not a second.

    404 for an answer this server never gave this tenant.
    """
    key = key_with(request, "feedback")
    runtime = runtime_of(request)
    item, dry_run = parse_feedback(
        await json_object(request), tenant_id=key.tenant_id, now_s=now_s()
    )
    for completion_id in _targets(item):
        if not runtime.signer.issued_to(completion_id, key.tenant_id):
            raise NotFound(
                f"No answer '{completion_id[:100]}'. Send the id the answer came with "
                "(its 'id' field).",
                param="completion_id",
                code="completion_not_found",
            )
    if dry_run:
        return JSONResponse({**feedback_json(item), "dryrun": True})
    stored, created = await asyncio.to_thread(runtime.feedback.put, item)
    if created:
        metrics.FEEDBACK.labels(stored.kind).inc()
    return JSONResponse(feedback_json(stored), status_code=201 if created else 200)


@router.get("/v1/feedback")
async def list_feedback(request: Request) -> dict[str, Any]:
    """Newest first; filters: completion_id, kind, name, user, adapter; cursor: after."""
    key = key_with(request, "feedback")
    runtime = runtime_of(request)
    query = request.query_params
    adapter = query.get("adapter")
    adapter_id = (
        (await asyncio.to_thread(runtime.registry.get, key.tenant_id, adapter)).id
        if adapter
        else None
    )

    kind = query.get("kind")
    if kind is not None and kind not in get_args(Kind):
        raise Invalid(f"kind is one of {', '.join(get_args(Kind))}.", param="kind")
    completion_id, after = query.get("completion_id"), query.get("after")
    where = FeedbackFilter(
        completion_id=CompletionId(completion_id) if completion_id else None,
        kind=cast(Kind | None, kind),
        name=query.get("name"),
        end_user=query.get("user"),
        adapter_id=adapter_id,
    )

    def read() -> Page[Feedback]:
        return runtime.feedback.list(
            key.tenant_id,
            where,
            after=FeedbackId(after) if after else None,
            limit=limit_of(request),
        )

    found = await asyncio.to_thread(read)
    return page([feedback_json(item) for item in found.items], has_more=found.has_more)


@router.get("/v1/feedback/{feedback_id}")
async def get_feedback(feedback_id: str, request: Request) -> dict[str, Any]:
    """One item. 404 if it is not the caller's."""
    key = key_with(request, "feedback")
    runtime = runtime_of(request)
    return feedback_json(
        await asyncio.to_thread(runtime.feedback.get, key.tenant_id, FeedbackId(feedback_id[:128]))
    )


@router.delete("/v1/feedback/{feedback_id}")
async def delete_feedback(feedback_id: str, request: Request) -> dict[str, Any]:
    """Take one item back for good. 404 if it is not the caller's."""
    key = key_with(request, "feedback")
    runtime = runtime_of(request)
    item_id = FeedbackId(feedback_id[:128])
    if not await asyncio.to_thread(runtime.feedback.delete, key.tenant_id, item_id):
        raise NotFound(f"No feedback '{item_id}'.", param="id")
    return {"id": feedback_id, "object": "feedback.deleted", "deleted": True}


def feedback_json(item: Feedback) -> dict[str, Any]:
    """The item as HTTP shows it."""
    return {
        "id": item.id,
        "object": "feedback",
        "created_at": iso(item.created_at_s),
        "kind": item.kind,
        "completion_id": item.completion_id,
        "choice_index": item.choice_index,
        "name": item.name,
        "value": item.value,
        "comment": item.comment,
        "correction": item.correction,
        "comparison": (
            {"preferred": item.comparison.preferred, "rejected": list(item.comparison.rejected)}
            if item.comparison
            else None
        ),
        "source": {"kind": item.source_kind, "id": item.source_id},
        "user": item.end_user,
        "tags": dict(item.tags),
        "metadata": dict(item.metadata),
    }


def _targets(item: Feedback) -> list[CompletionId]:
    targets = [item.completion_id] if item.completion_id else []
    if item.comparison:
        targets += [item.comparison.preferred, *item.comparison.rejected]
    return targets
