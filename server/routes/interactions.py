"""/v1/interactions: answered requests as they were recorded, to look at; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Depends, Query
from pydantic import Field

from core.bodies import Moment, says
from core.errors import Invalid
from core.identity.types import ApiKey
from core.ids import CompletionId, TenantId
from core.work.kind import Listing
from feedback.history import Wanted
from feedback.types import Interaction, Outcome
from server.routes.common import PageOf, RuntimeOf, key_with, new_router, page_of
from server.routes.interaction_views import InteractionView, interaction_view
from server.runtime import Runtime

router = new_router("interactions")

Trainer = Annotated[ApiKey, Depends(key_with("train"))]
Endpoint = Literal["chat.completions", "completions", "responses", "messages"]


class InteractionListing(Listing):
    """Which answers to list."""

    adapter: str | None = None
    version: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        None, description="Of the adapter, which must be named too."
    )
    model: str | None = Field(None, description="What answered: `support@7`, or the base's name.")
    outcome: Outcome | None = None
    endpoint: Endpoint | None = None
    user: str | None = None
    domain: str | None = None
    conversation: str | None = None
    since: Moment | None = Field(None, description="Asked then or later: ISO 8601, or seconds.")
    until: Moment | None = Field(None, description="Asked before then.")
    judged: Annotated[bool, says("judged is true or false.")] | None = Field(
        None, description="Whether any feedback speaks of it."
    )


@router.get("/v1/interactions")
def list_interactions(
    asked: Annotated[InteractionListing, Query()], key: Trainer, runtime: RuntimeOf
) -> PageOf[InteractionView]:
    """Those asked last first, with token ids; cursor: after. A page that would be too large, or
    take too long to find, is a short one with `has_more`: go on after its `last_id`."""
    found = runtime.interactions.list(
        key.tenant_id,
        _wanted(asked, key.tenant_id, runtime),
        after=CompletionId(asked.after) if asked.after else None,
        limit=asked.limit,
    )
    page = page_of(_views(found.items, key.tenant_id, runtime), has_more=found.has_more)
    return page if found.after is None else page.model_copy(update={"last_id": found.after})


@router.get("/v1/interactions/{interaction_id}")
def get_interaction(interaction_id: str, key: Trainer, runtime: RuntimeOf) -> InteractionView:
    """One answer by the id it came with. 404 if it is not the caller's."""
    answered = runtime.interactions.get(key.tenant_id, CompletionId(interaction_id[:160]))
    (view,) = _views([answered], key.tenant_id, runtime)
    return view


def _wanted(asked: InteractionListing, tenant_id: TenantId, runtime: Runtime) -> Wanted:
    model = asked.model
    if asked.version is not None:
        if asked.adapter is None:
            raise Invalid("version: name its adapter too.", param="version")
        if model is not None:
            raise Invalid("Send model, or adapter and version, not both.", param="model")
        model = f"{asked.adapter}@{asked.version}"
    adapter = runtime.registry.get(tenant_id, asked.adapter) if asked.adapter else None
    return Wanted(
        adapter_id=adapter.id if adapter else None,
        outcome=asked.outcome,
        endpoint=asked.endpoint,
        model_answered=model,
        end_user=asked.user,
        domain=asked.domain,
        conversation_id=asked.conversation,
        since_s=asked.since,
        until_s=asked.until,
        judged=asked.judged,
    )


def _views(
    answers: Sequence[Interaction], tenant_id: TenantId, runtime: Runtime
) -> list[InteractionView]:
    names = runtime.registry.names({one.adapter_id for one in answers if one.adapter_id})
    said = runtime.feedback.about(tenant_id, [one.id for one in answers])
    return [
        interaction_view(
            one,
            names.get(one.adapter_id) if one.adapter_id else None,
            said.get(one.id, ()),
            runtime.traits.template,
        )
        for one in answers
    ]
