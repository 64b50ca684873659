"""/v1/responses/{id}: answers of the responses API, fetched again, looked into, and erased.

Making one is the engine's; going on from one is the door's (`server/door/conversation.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NoReturn

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from core.bodies import Resource, says
from core.errors import Invalid, NotFound
from core.identity.types import ApiKey
from core.ids import TenantId
from feedback.types import Interaction
from server.answers.responses import shown_items
from server.routes.common import PageOf, RuntimeOf, key_with, new_router, page_of
from server.runtime import Runtime

router = new_router("responses")

Key = Annotated[ApiKey, Depends(key_with("inference"))]

_NOT_HERE = {
    "stream": "A response is fetched whole: leave `stream` away. To see an answer as it is given, "
    "ask with stream=true.",
    "starting_after": "A response is fetched whole: leave `starting_after` away.",
    "include_obfuscation": "A response is fetched whole: leave `include_obfuscation` away.",
    "include": "A response is fetched as it was answered: say `include` when you ask.",
    "include[]": "A response is fetched as it was answered: say `include` when you ask.",
}


class ResponseView(Resource):
    """A response object, as its client got it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    object: Literal["response"] = "response"
    status: str
    model: str
    output: list[Any]


class InputItem(Resource):
    """Something the model read: a message, a call of a tool, what the tool gave."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    type: str


class ItemListing(BaseModel):
    """Which input items to list."""

    after: str | None = Field(None, description="The last id of the page before.")
    limit: Annotated[
        int, Field(ge=1, le=100), says("limit must be a whole number from 1 to 100.")
    ] = 20
    order: Annotated[Literal["asc", "desc"], says("order is asc or desc.")] = "desc"


class Deleted(Resource):
    """What was erased."""

    object: Literal["response"] = "response"
    deleted: Literal[True] = True


@router.get("/v1/responses/{response_id}")
def get_response(response_id: str, key: Key, runtime: RuntimeOf, request: Request) -> ResponseView:
    """The response as it was answered. 404 if it was deleted, answered with `store` false, or is
    not the caller's."""
    _refuse_what_is_not_here(request)
    return ResponseView.model_validate(_found(runtime, key.tenant_id, response_id).document)


@router.get("/v1/responses/{response_id}/input_items")
def list_input_items(
    response_id: str,
    asked: Annotated[ItemListing, Query()],
    key: Key,
    runtime: RuntimeOf,
    request: Request,
) -> PageOf[InputItem]:
    """What the model read, earlier turns included, newest first unless `order` is asc."""
    _refuse_what_is_not_here(request)
    items = shown_items(_found(runtime, key.tenant_id, response_id))
    if asked.order == "desc":
        items.reverse()
    begin = 0
    if asked.after is not None:
        ids = [item["id"] for item in items]
        if asked.after not in ids:
            raise NotFound(f"No item {asked.after[:80]!r} to continue after.", param="after")
        begin = ids.index(asked.after) + 1
    page = items[begin : begin + asked.limit]
    more = begin + asked.limit < len(items)
    return page_of([InputItem.model_validate(item) for item in page], has_more=more)


@router.delete("/v1/responses/{response_id}")
def delete_response(response_id: str, key: Key, runtime: RuntimeOf) -> Deleted:
    """Erase a response with what was asked for it. It cannot be fetched or gone on from any more,
    and nothing is learnt from what was said of it."""
    if not runtime.responses.delete(key.tenant_id, response_id):
        raise _missing(response_id)
    return Deleted(id=response_id)


@router.post("/v1/responses/{response_id}/cancel")
def cancel_response(response_id: str, key: Key, runtime: RuntimeOf) -> ResponseView:
    """Always refused: only a response in the background can be cancelled, and there is none."""
    _found(runtime, key.tenant_id, response_id)
    _refuse_cancelling()


def _refuse_cancelling() -> NoReturn:
    raise Invalid(
        "Only a response in the background can be cancelled, and this one has been answered. To "
        "end an answer early, close its connection.",
        param="response_id",
    )


def _refuse_what_is_not_here(request: Request) -> None:
    for name, value in request.query_params.multi_items():
        if name in _NOT_HERE and value.lower() not in ("", "0", "false"):
            raise Invalid(_NOT_HERE[name], param=name, code="unsupported_parameter")


def _found(runtime: Runtime, tenant_id: TenantId, response_id: str) -> Interaction:
    found = runtime.responses.find(tenant_id, response_id)
    if found is None:
        raise _missing(response_id)
    return found


def _missing(response_id: str) -> NotFound:
    return NotFound(
        f"Response with id {response_id[:80]!r} not found. It may have been deleted, or answered "
        "with `store` false.",
        param="response_id",
        code="response_not_found",
    )
