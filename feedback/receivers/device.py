"""`POST /v1/edge/sync`: answers and feedback that a device collected while it was offline.

Owns the form of the call and its limits. Every item is stored, was stored already, or is refused
with the reason; the others stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from core.bodies import Body, invalid, is_shallow, says
from core.errors import Invalid
from core.feedback_fields import MAX_TEXT, Comment, Name, Value
from core.http_errors import ErrorBody, error_body
from feedback.receivers.base import Caller, Receiver, Refused, Result, alone
from feedback.receivers.native import Correction, FeedbackBody, Short, feedback_said
from feedback.types import Feedback, Interaction

MAX_ITEMS = 200
MAX_BYTES = 4_000_000
_EDGE_ID = re.compile(r"edge-[0-9a-f]{24,40}")
_FINISHED = frozenset({"stop", "length"})
_MAX_SAMPLING_BYTES = 2_000
_MAX_SAMPLING_DEPTH = 16

Seconds = Annotated[float, Field(ge=0, lt=1e300, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Milliseconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]


class _Part(BaseModel):
    # Unknown fields are passed over: a device may be newer than its server, and an item that is
    # refused is never sent again.
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class MessageItem(_Part):
    """A chat message of text."""

    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: Annotated[str, Field(max_length=MAX_TEXT)]


class InteractionItem(_Part):
    """An answer a device gave by itself, and what gave it."""

    seq: int
    type: Literal["interaction"]
    id: str
    created_at: Seconds
    model_requested: Short
    model_answered: Short
    adapter: Short | None = None
    version: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    export_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    messages: Annotated[list[MessageItem], Field(min_length=1, max_length=1_000)]
    answer: Annotated[str, Field(max_length=MAX_TEXT)]
    finish_reason: Short | None = None
    user: Short | None = None
    domain: Short | None = None
    conversation_id: Short | None = None
    sampling: Annotated[dict[str, Any], Field(max_length=32)] = {}
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    first_token_ms: Milliseconds | None = None
    duration_ms: Milliseconds | None = None


class FeedbackItem(_Part):
    """What was said of an answer, a device's own or the server's."""

    seq: Any = None
    type: Literal["feedback"]
    id: str  # without one, the item sent again would be another item
    completion_id: str
    created_at: Annotated[Seconds, says("created_at: send seconds since the epoch.")]
    value: Value = None
    comment: Comment | None = None
    correction: Correction = None
    name: Name | None = None
    user: Short | None = None


_ITEMS: dict[Any, type[_Part]] = {"interaction": InteractionItem, "feedback": FeedbackItem}


def _by_type(value: Any, _union: ValidatorFunctionWrapHandler) -> Any:
    """The union, but refused item by item, with the errors of the one model that is meant."""
    if not isinstance(value, dict):
        return Refused(value, Invalid("An item must be an object.", param="items"))
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _ITEMS:
        return Refused(value, Invalid("type must be 'interaction' or 'feedback'.", param="type"))
    return alone(value, _ITEMS[kind].model_validate)


class SyncBody(Body):
    """One call of a device."""

    device: Annotated[
        str,
        Field(pattern=r"^[0-9a-f]{32}$"),
        says("device must be the 32 lower-case hex digits of a UUID."),
    ]
    items: Annotated[
        list[Annotated[InteractionItem | FeedbackItem, WrapValidator(_by_type)]],
        Field(json_schema_extra={"maxItems": MAX_ITEMS}),
    ]


class Kept(BaseModel):
    """An item that is stored, now or before."""

    seq: int | None
    id: str
    status: Literal["stored", "already_stored"]


class Rejected(BaseModel):
    """An item that is not taken, and why."""

    seq: int | None
    status: Literal["rejected"] = "rejected"
    error: ErrorBody


class SyncAnswer(BaseModel):
    """One result per item, in the order of the call."""

    object: Literal["edge.sync"] = "edge.sync"
    results: list[Kept | Rejected]


class DeviceReceiver(Receiver[SyncBody]):
    """Store a device's items durably before answering; the same item again changes nothing.

    Each item is stored, was stored already, or is rejected with the reason; the others stay. 400
    beyond 200 items, 413 beyond 4 MB.
    """

    name = "device"
    path = "/v1/edge/sync"
    body = SyncBody
    answer = SyncAnswer
    statuses = ((200, "What became of each item."),)
    max_bytes = MAX_BYTES
    newest_wins = True

    def items(self, sent: SyncBody) -> Sequence[Any]:
        if len(sent.items) > MAX_ITEMS:
            raise Invalid(
                f"At most {MAX_ITEMS} items a call, not {len(sent.items):,}: send the rest in "
                "further calls.",
                param="items",
                code="too_many_items",
            )
        return sent.items

    def read(self, item: Any, sent: SyncBody, caller: Caller) -> Interaction | Feedback:
        if isinstance(item, InteractionItem):
            return _interaction(item, sent.device, caller)
        return _feedback(item, sent.device, caller)

    def respond(self, sent: SyncBody, results: Sequence[Result]) -> tuple[int, BaseModel]:
        return 200, SyncAnswer(results=[_fate(result) for result in results])


def _fate(result: Result) -> Kept | Rejected:
    sent = result.sent
    seq = sent.get("seq") if isinstance(sent, dict) else getattr(sent, "seq", None)
    seq = seq if type(seq) is int else None
    if result.error is not None:
        return Rejected(seq=seq, error=error_body(result.error))
    assert result.item is not None
    status = "already_stored" if result.change == "unchanged" else "stored"
    return Kept(seq=seq, id=result.item.id, status=status)


def _interaction(sent: InteractionItem, device: str, caller: Caller) -> Interaction:
    own_id = caller.derived_id(device, _edge_id(sent.id, "id"))
    if not is_shallow(sent.sampling, _MAX_SAMPLING_DEPTH):
        raise Invalid(
            f"sampling: at most {_MAX_SAMPLING_DEPTH} levels of nesting.", param="sampling"
        )
    if len(json.dumps(sent.sampling)) > _MAX_SAMPLING_BYTES:
        raise Invalid(f"sampling: at most {_MAX_SAMPLING_BYTES:,} bytes of JSON.", param="sampling")
    adapter_id = None
    if sent.adapter is not None:
        adapter_id = caller.adapter_id(sent.adapter, sent.version)
    elif sent.version is not None:
        raise Invalid("version: a version needs its adapter.", param="version")
    answered = f"{sent.adapter}@{sent.version}"
    if sent.version is not None and sent.model_answered != answered:
        raise Invalid(
            f"model_answered: adapter and version say it was {answered!r}.",
            param="model_answered",
        )
    return Interaction(
        id=own_id,
        tenant_id=caller.tenant_id,
        endpoint="chat.completions",
        created_at_s=min(sent.created_at, caller.now_s),
        outcome="completed" if sent.finish_reason in _FINISHED else "cancelled",
        model_requested=sent.model_requested,
        model_answered=sent.model_answered,
        adapter_id=adapter_id,
        version=sent.version,
        explored=False,
        prompt=tuple(message.model_dump() for message in sent.messages),
        answers=(sent.answer,),
        finish_reason=sent.finish_reason,
        end_user=sent.user,
        domain=sent.domain,
        conversation_id=sent.conversation_id,
        sampling=sent.sampling,
        request={"edge": {"device": device, "export_digest": sent.export_digest, "id": sent.id}},
        prompt_tokens=sent.prompt_tokens,
        completion_tokens=sent.completion_tokens,
        first_token_ms=sent.first_token_ms,
        duration_ms=sent.duration_ms,
    )


def _feedback(sent: FeedbackItem, device: str, caller: Caller) -> Feedback:
    about: str = sent.completion_id
    if about.startswith("edge-"):
        about = caller.derived_id(device, _edge_id(about, "completion_id"))
    try:
        said = FeedbackBody(
            id=sent.id,
            completion_id=about,
            value=sent.value,
            comment=sent.comment,
            correction=sent.correction,
            name=sent.name,
            user=sent.user,
        )
    except ValidationError as error:
        raise invalid(error.errors()) from error
    at_s = min(sent.created_at, caller.now_s)
    return feedback_said(said, tenant_id=caller.tenant_id, at_s=at_s)


def _edge_id(text: str, param: str) -> str:
    if not _EDGE_ID.fullmatch(text):
        raise Invalid(
            f"{param}: an offline answer's id is edge-<24 to 40 hex digits>.", param=param
        )
    return text
