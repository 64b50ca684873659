"""`POST /v1/edge/sync`: answers and feedback that a device collected while it was offline.

Owns the form of the call and its limits. Every item is stored, was stored already, or is refused
with the reason; the others stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidatorFunctionWrapHandler, WrapValidator

from adapters.routing import BASE
from core.bodies import Body, is_shallow, says
from core.errors import Invalid, NotFound
from core.feedback_fields import MAX_TEXT, Comment, Name, Value
from core.http_errors import ErrorBody, error_body
from core.ids import DEVICE_PATTERN, AdapterId
from core.names import Title
from feedback.receivers.base import Caller, Part, Receiver, Result, alone
from feedback.receivers.native import Correction, Short, feedback_stated
from feedback.served import Served, ServedChoice, pack
from feedback.types import Feedback, Interaction

_EDGE_ID = re.compile(r"edge-[0-9a-f]{24,40}")
_PINNED = re.compile(r"[^@]+@[0-9]+")
_FINISHED = frozenset({"stop", "length"})
_MAX_SAMPLING_BYTES = 2_000
_MAX_SAMPLING_DEPTH = 16

Seconds = Annotated[float, Field(ge=0, lt=1e300, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[Count], Field(max_length=262_144)]
PromptIds = Annotated[list[Count], Field(min_length=1, max_length=262_144)]
Milliseconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]


class MessageItem(Part):
    """A chat message of text."""

    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: Annotated[str, Field(max_length=MAX_TEXT)]


class InteractionItem(Part):
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
    user: Title | None = None
    domain: Title | None = None
    conversation_id: Title | None = None
    sampling: dict[str, Any] = Field({}, max_length=32)
    prompt_token_ids: PromptIds | None = None
    token_ids: TokenIds | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    first_token_ms: Milliseconds | None = None
    duration_ms: Milliseconds | None = None


class FeedbackItem(Part):
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
    user: Title | None = None


_AS_SENT = InteractionItem.model_fields.keys() & set(Interaction.__slots__) - {"id"}
"""What an interaction takes over from the item as it is."""

_ITEMS: dict[Any, type[Part]] = {"interaction": InteractionItem, "feedback": FeedbackItem}


def _by_type(value: Any, _union: ValidatorFunctionWrapHandler) -> Any:
    """The union, but refused item by item, with the errors of the one model that is meant."""
    if not isinstance(value, dict):
        return Result(value, error=Invalid("An item must be an object.", param="items"))
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _ITEMS:
        error = Invalid("type must be 'interaction' or 'feedback'.", param="type")
        return Result(value, error=error)
    return alone(value, _ITEMS[kind].model_validate)


class SyncBody(Body):
    """One call of a device."""

    device: Annotated[
        str,
        Field(pattern=f"^{DEVICE_PATTERN}$"),
        says("device must be the 32 lower-case hex digits of a UUID."),
    ]
    items: Annotated[
        list[Annotated[InteractionItem | FeedbackItem, WrapValidator(_by_type)]],
        Field(json_schema_extra={"maxItems": Receiver.max_items}),
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
    scope = "edge"
    path = "/v1/edge/sync"
    body = SyncBody
    answer = SyncAnswer
    statuses = ((200, "What became of each item."),)
    max_bytes = 4_000_000
    newest_wins = True

    def items(self, sent: SyncBody) -> Sequence[Any]:
        return sent.items

    def giver(self, sent: SyncBody, caller: Caller) -> str:
        caller.require_device(sent.device)
        return sent.device  # its next key may go on where this one stopped

    def read(self, item: Any, sent: SyncBody, caller: Caller) -> Interaction | Feedback:
        if isinstance(item, InteractionItem):
            return _interaction(item, sent.device, caller)
        return _feedback(item, sent.device, caller)

    def respond(self, sent: SyncBody, results: Sequence[Result]) -> tuple[int, BaseModel]:
        return 200, SyncAnswer(results=[_fate(result) for result in results])


def _fate(result: Result) -> Kept | Rejected:
    seq = result.sent_field("seq")
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
    adapter_id = _what_answered(sent, caller)
    return Interaction(
        id=own_id,
        tenant_id=caller.tenant_id,
        endpoint="chat.completions",
        created_at_s=min(sent.created_at, caller.now_s),
        outcome="completed" if sent.finish_reason in _FINISHED else "cancelled",
        adapter_id=adapter_id,
        explored=False,
        prompt=tuple(message.model_dump() for message in sent.messages),
        answers=(sent.answer,),
        end_user=sent.user,
        request={"edge": {"device": device, "export_digest": sent.export_digest, "id": sent.id}},
        tokens=_tokens(sent),
        **sent.model_dump(include=_AS_SENT),
    )


def _tokens(sent: InteractionItem) -> bytes | None:
    """What the device read and sampled, as it is stored; older devices do not say."""
    prompt, sampled = sent.prompt_token_ids, sent.token_ids
    if prompt is None and sampled is None:
        return None
    if prompt is None or sampled is None:
        missing = "prompt_token_ids" if prompt is None else "token_ids"
        raise Invalid(
            f"{missing}: send the ids of prompt and answer, or neither of them.", param=missing
        )
    _require_count("prompt_tokens", sent.prompt_tokens, prompt)
    _require_count("completion_tokens", sent.completion_tokens, sampled)
    ended = sent.finish_reason if sent.finish_reason in _FINISHED else None
    return pack(Served((tuple(prompt),), (ServedChoice(0, tuple(sampled), ended),)))


def _require_count(name: str, said: int | None, ids: Sequence[int]) -> None:
    if said is not None and said != len(ids):
        raise Invalid(
            f"{name}: it says {said:,}, and the ids are {len(ids):,}. Send the count of the ids, "
            "or leave it out.",
            param=name,
        )


def _what_answered(sent: InteractionItem, caller: Caller) -> AdapterId | None:
    """The adapter that may learn from it. NotFound for what was never exported to the tenant."""
    adapter_id = None
    if sent.adapter is not None:
        adapter_id = caller.adapter_id(sent.adapter, sent.version)
    elif sent.version is not None:
        raise Invalid("version: a version needs its adapter.", param="version")
    exported = BASE if sent.version is None else f"{sent.adapter}@{sent.version}"
    if sent.version is None and _PINNED.fullmatch(sent.model_answered):
        raise Invalid(
            "model_answered: it names a version, so send its adapter and version.",
            param="model_answered",
        )
    if sent.version is not None and sent.model_answered != exported:
        raise Invalid(
            f"model_answered: adapter and version say it was {exported!r}.",
            param="model_answered",
        )
    if not caller.was_given(exported, sent.export_digest):
        raise NotFound(
            f"There is no finished export with '{exported}' of the digest "
            f"{sent.export_digest[:12]}…; only answers of what was exported are taken.",
            param="export_digest",
            code="export_not_found",
        )
    return adapter_id


def _feedback(sent: FeedbackItem, device: str, caller: Caller) -> Feedback:
    about: str = sent.completion_id
    if about.startswith("edge-"):
        about = caller.derived_id(device, _edge_id(about, "completion_id"))
    fields = sent.model_dump(exclude={"seq", "type", "created_at"}) | {"completion_id": about}
    at_s = min(sent.created_at, caller.now_s)
    return feedback_stated(fields, tenant_id=caller.tenant_id, at_s=at_s)


def _edge_id(text: str, param: str) -> str:
    if not _EDGE_ID.fullmatch(text):
        raise Invalid(
            f"{param}: an offline answer's id is edge-<24 to 40 hex digits>.", param=param
        )
    return text
