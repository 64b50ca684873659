"""Feedback over HTTP: the ways it comes in, every receiver mounted in the same manner, and
GET /v1/feedback, what users thought of the answers they got."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import JSONResponse

from core.clock import now_s
from core.errors import Forbidden, NotFound
from core.identity.keys import has
from core.identity.types import ApiKey
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from core.work.kind import Listing
from feedback.receivers.base import Receiver, Result
from feedback.receivers.intake import take_in
from feedback.receivers.native import FeedbackView, feedback_view
from feedback.types import Feedback, Kind
from server import metrics
from server.answers.completion_ids import PREFIXES
from server.routes.common import BASIC, BEARER, PageOf, RuntimeOf, key_with, new_router, page_of
from server.runtime import Runtime

router = new_router("feedback")

Reader = Annotated[ApiKey, Depends(key_with("feedback:read"))]
Giver = Annotated[ApiKey, Depends(key_with("feedback:write", "feedback:read"))]

_TYPES = ("interaction", "feedback")
_STATUSES = {"created": "stored", "updated": "stored", "unchanged": "already_stored"}


class FeedbackListing(Listing):
    """Which items to list."""

    adapter: str | None = None
    completion_id: str | None = None
    kind: Kind | None = None
    name: str | None = None
    user: str | None = None


@router.get("/v1/feedback")
def list_feedback(
    asked: Annotated[FeedbackListing, Query()], key: Reader, runtime: RuntimeOf
) -> PageOf[FeedbackView]:
    """Newest first; filters: completion_id, kind, name, user, adapter; cursor: after."""
    adapter = runtime.registry.get(key.tenant_id, asked.adapter) if asked.adapter else None
    found = runtime.feedback.list(
        key.tenant_id,
        completion_id=CompletionId(asked.completion_id) if asked.completion_id else None,
        kind=asked.kind,
        name=asked.name,
        end_user=asked.user,
        adapter_id=adapter.id if adapter else None,
        after=FeedbackId(asked.after) if asked.after else None,
        limit=asked.limit,
    )
    return page_of([feedback_view(item) for item in found.items], has_more=found.has_more)


@router.get("/v1/feedback/{feedback_id}")
def get_feedback(feedback_id: str, key: Giver, runtime: RuntimeOf) -> FeedbackView:
    """One item. 404 if it is not the caller's: without `feedback:read`, what this key gave."""
    item = runtime.feedback.get(key.tenant_id, FeedbackId(feedback_id[:128]))
    if item.given_by != key.public_id and not has(key, "feedback:read"):
        raise _missing(item.id)
    return feedback_view(item)


@dataclass(slots=True)
class _Caller:
    """One key in one call; an adapter, and what exports hold, is looked up once."""

    runtime: Runtime
    key: ApiKey
    tenant_id: TenantId
    key_id: str
    own_only: bool
    now_s: float
    known: dict[tuple[str, int | None], AdapterId] = field(default_factory=dict)
    given: dict[str, frozenset[str]] = field(default_factory=dict)

    def issued(self, completion_id: str) -> bool:
        signer = self.runtime.signer
        if signer.issued_to(completion_id, self.tenant_id):
            return True
        return signer.issued_before(completion_id, self.tenant_id) and bool(
            self.runtime.interactions.stored(self.tenant_id, [CompletionId(completion_id)])
        )

    def derived_id(self, *parts: str) -> CompletionId:
        token = self.runtime.signer.derived(self.tenant_id, *parts)
        return CompletionId(PREFIXES["chat.completions"] + token)

    def adapter_id(self, name: str, version: int | None) -> AdapterId:
        if (name, version) not in self.known:
            adapter = self.runtime.registry.get(self.tenant_id, name)
            if version is not None:
                self.runtime.registry.version(adapter.id, version)
            self.known[name, version] = adapter.id
        return self.known[name, version]

    def require_device(self, device: str) -> None:
        if has(self.key, "feedback"):
            return
        bound = self.key.device or self.runtime.tenants.bind_device(self.key_id, device)
        if bound != device:
            raise Forbidden(
                f"This API key is the device {bound}'s alone. Make one for each device: `attune "
                "keys create --scope edge`.",
                param="device",
                code="another_device",
            )

    def was_given(self, model: str, digest: str) -> bool:
        if model not in self.given:
            kinds = self.runtime.work.values()
            digests = (kind.given_out(self.tenant_id, model) for kind in kinds)
            self.given[model] = frozenset().union(*digests)
        return digest in self.given[model]


def _caller(runtime: Runtime, key: ApiKey) -> _Caller:
    own_only = not has(key, "feedback")
    return _Caller(runtime, key, key.tenant_id, key.public_id, own_only, now_s())


def _missing(feedback_id: FeedbackId) -> NotFound:
    return NotFound(f"No feedback {feedback_id!r}.", param="id")


def mounted(receiver: Receiver[Any]) -> APIRouter:
    """The routes of a receiver: POST its path, and DELETE what it took if it erases."""
    routes = new_router("feedback")
    scheme = BASIC if receiver.auth == "basic" else BEARER
    key_of = Annotated[ApiKey, Depends(key_with(receiver.scope, scheme=scheme))]

    def receive(sent: Any, key: Any, runtime: RuntimeOf) -> JSONResponse:
        caller = _caller(runtime, key)
        results = take_in(
            receiver,
            sent,
            caller,
            runtime.interactions,
            runtime.feedback_writer.put_all,
            runtime.lessons.of,
        )
        for result in results:
            _count(receiver, result)
        status, answer = receiver.respond(sent, results)
        return JSONResponse(answer.model_dump(mode="json"), status)

    def erase(feedback_id: str, key: Any, runtime: RuntimeOf) -> JSONResponse:
        """Take one item back for good. 404 if it is not the caller's: this key must have given it.

        A key with the scope `feedback` takes back what any of the tenant's gave.
        """
        item_id = FeedbackId(feedback_id[:128])
        given_by = None if has(key, "feedback") else key.public_id
        if not runtime.feedback.delete(key.tenant_id, item_id, given_by=given_by):
            raise _missing(item_id)
        answer = receiver.erased(feedback_id)
        assert answer is not None
        return JSONResponse(answer.model_dump(mode="json"))

    receive.__annotations__ |= {"sent": Annotated[receiver.body, Body()], "key": key_of}
    erase.__annotations__["key"] = key_of
    status, *others = receiver.statuses
    routes.add_api_route(
        receiver.path,
        receive,
        methods=["POST"],
        name=f"give_{receiver.name}",
        summary=f"Feedback: {receiver.name}",
        description=inspect.getdoc(receiver),
        status_code=status[0],
        response_description=status[1],
        response_model=receiver.answer,
        responses=_also(receiver, *others),
    )
    erased = receiver.erased("")
    if erased is not None:
        routes.add_api_route(
            receiver.path + "/{feedback_id}",
            erase,
            methods=["DELETE"],
            name=f"erase_{receiver.name}",
            response_model=type(erased),
            responses=_also(receiver),
        )
    return routes


def _also(receiver: Receiver[Any], *others: tuple[int, str]) -> dict[int | str, dict[str, Any]]:
    refusal = type(receiver.refusal(NotFound("")))
    return {
        **{code: {"model": receiver.answer, "description": text} for code, text in others},
        "4XX": {"model": refusal, "description": "Refused; the body says why."},
        503: {"model": refusal, "description": "Not now; try again."},
    }


def _count(receiver: Receiver[Any], result: Result) -> None:
    if isinstance(result.item, Feedback) and result.change == "created":
        metrics.FEEDBACK.labels(result.item.kind).inc()
    if receiver.name == "device":
        sent = result.sent
        kind = sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", None)
        status = "rejected" if result.change is None else _STATUSES[result.change]
        metrics.EDGE_ITEMS.labels(kind if kind in _TYPES else "unknown", status).inc()
