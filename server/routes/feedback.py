"""GET /v1/feedback: what users thought of the answers they got. Receivers take it in."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from core.identity.types import ApiKey
from core.ids import CompletionId, FeedbackId
from feedback.receivers.native import FeedbackView, feedback_view
from feedback.types import Kind
from server.routes.common import After, Limit, PageOf, RuntimeOf, key_with, new_router, page_of

router = new_router("feedback")

Key = Annotated[ApiKey, Depends(key_with("feedback"))]


@router.get("/v1/feedback")
def list_feedback(
    key: Key,
    runtime: RuntimeOf,
    adapter: str | None = None,
    completion_id: str | None = None,
    kind: Kind | None = None,
    name: str | None = None,
    user: str | None = None,
    after: After = None,
    limit: Limit = 20,
) -> PageOf[FeedbackView]:
    """Newest first; filters: completion_id, kind, name, user, adapter; cursor: after."""
    found = runtime.feedback.list(
        key.tenant_id,
        completion_id=CompletionId(completion_id) if completion_id else None,
        kind=kind,
        name=name,
        end_user=user,
        adapter_id=runtime.registry.get(key.tenant_id, adapter).id if adapter else None,
        after=FeedbackId(after) if after else None,
        limit=limit,
    )
    return page_of([feedback_view(item) for item in found.items], has_more=found.has_more)


@router.get("/v1/feedback/{feedback_id}")
def get_feedback(feedback_id: str, key: Key, runtime: RuntimeOf) -> FeedbackView:
    """One item. 404 if it is not the caller's."""
    return feedback_view(runtime.feedback.get(key.tenant_id, FeedbackId(feedback_id[:128])))
