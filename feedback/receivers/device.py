"""One item a device collected offline, made into an Interaction or a Feedback, or refused.

Owns the form of `POST /v1/edge/sync` and its limits. Pure: what exists (adapters, issued ids) is
asked of the `Lookup` it is handed. Knows nothing of HTTP, SQL or signatures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import Invalid, NotFound
from core.ids import AdapterId, CompletionId, TenantId
from feedback.receivers.native import MAX_TEXT, parse_feedback
from feedback.types import Feedback, Interaction

MAX_ITEMS = 200
MAX_BYTES = 4_000_000
_DEVICE = re.compile(r"[0-9a-f]{32}")
_EDGE_ID = re.compile(r"edge-[0-9a-f]{24,40}")
_FINISHED = frozenset({"stop", "length"})
_MAX_SAMPLING_BYTES = 2_000
_MAX_SAMPLING_DEPTH = 16
_MAX_TIME_S = 1e300

Short = Annotated[str, Field(min_length=1, max_length=256)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Milliseconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]


class Lookup(Protocol):
    """What parsing must ask of the server, all of it about one tenant and one device."""

    def completion_id(self, edge_id: str) -> CompletionId:
        """The server's id of an offline answer: always the same for the same `edge_id`."""
        ...

    def issued(self, completion_id: str) -> bool:
        """Whether the tenant was given an answer of this id by the server itself."""
        ...

    def adapter_id(self, name: str, version: int | None) -> AdapterId:
        """The tenant's adapter of that name. NotFound if it, or that version, does not exist."""
        ...


class _Part(BaseModel):
    # Unknown fields are passed over: a device may be newer than its server, and an item that is
    # refused is never sent again.
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _MessageBody(_Part):
    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: Annotated[str, Field(max_length=MAX_TEXT)]


class _InteractionBody(_Part):
    seq: int
    type: Literal["interaction"]
    id: str
    created_at: Seconds
    model_requested: Short
    model_answered: Short
    adapter: Short | None = None
    version: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    export_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    messages: Annotated[list[_MessageBody], Field(min_length=1, max_length=1_000)]
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


def parse_device(value: Any) -> str:
    """The device's own id, a UUID's 32 hex digits. Raises Invalid."""
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise Invalid("device must be the 32 lower-case hex digits of a UUID.", param="device")
    return value


def parse_items(value: Any) -> list[Any]:
    """The call's list of items, none of them looked at yet. Raises Invalid beyond 200."""
    if not isinstance(value, list):
        raise Invalid("items must be a list.", param="items")
    if len(value) > MAX_ITEMS:
        raise Invalid(
            f"At most {MAX_ITEMS} items a call, not {len(value):,}: send the rest in further "
            "calls.",
            param="items",
            code="too_many_items",
        )
    return value


def parse_item(
    item: Any, *, tenant_id: TenantId, device: str, now_s: float, lookup: Lookup
) -> Interaction | Feedback:
    """What one item of a call states; times in the future become `now_s`.

    Raises Invalid naming the field, NotFound for an adapter, a version or an answer the tenant
    does not have.
    """
    if not isinstance(item, dict):
        raise Invalid("An item must be an object.", param="items")
    kind = item.get("type")
    if kind == "interaction":
        return _interaction(item, tenant_id, device, now_s, lookup)
    if kind == "feedback":
        return _feedback(item, tenant_id, now_s, lookup)
    raise Invalid("type must be 'interaction' or 'feedback'.", param="type")


def _interaction(
    item: Mapping[str, Any], tenant_id: TenantId, device: str, now_s: float, lookup: Lookup
) -> Interaction:
    try:
        sent = _InteractionBody.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        raise Invalid(f"{where}: {first['msg']}.", param=where) from error
    _edge_id(sent.id, "id")
    _check_text(item)
    if not _is_shallow(sent.sampling, _MAX_SAMPLING_DEPTH):
        raise Invalid(
            f"sampling: at most {_MAX_SAMPLING_DEPTH} levels of nesting.", param="sampling"
        )
    if len(json.dumps(sent.sampling)) > _MAX_SAMPLING_BYTES:
        raise Invalid(f"sampling: at most {_MAX_SAMPLING_BYTES:,} bytes of JSON.", param="sampling")
    adapter_id = None
    if sent.adapter is not None:
        adapter_id = lookup.adapter_id(sent.adapter, sent.version)
    elif sent.version is not None:
        raise Invalid("version: a version needs its adapter.", param="version")
    answered = f"{sent.adapter}@{sent.version}"
    if sent.version is not None and sent.model_answered != answered:
        raise Invalid(
            f"model_answered: adapter and version say it was {answered!r}.",
            param="model_answered",
        )
    return Interaction(
        id=lookup.completion_id(sent.id),
        tenant_id=tenant_id,
        endpoint="chat.completions",
        created_at_s=min(sent.created_at, now_s),
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


def _feedback(
    item: Mapping[str, Any], tenant_id: TenantId, now_s: float, lookup: Lookup
) -> Feedback:
    if not isinstance(item.get("id"), str):
        # Without one, the item sent again would be another item.
        raise Invalid("id: an offline feedback item needs its own id.", param="id")
    created_at = item.get("created_at")
    if isinstance(created_at, bool) or not isinstance(created_at, int | float):
        raise Invalid("created_at: send seconds since the epoch.", param="created_at")
    if not 0 <= created_at < _MAX_TIME_S:  # and no whole number too large for a float
        raise Invalid("created_at: send seconds since the epoch.", param="created_at")
    about = item.get("completion_id")
    if not isinstance(about, str):
        raise Invalid("completion_id: name the answer it is about.", param="completion_id")
    if about.startswith("edge-"):
        about = lookup.completion_id(_edge_id(about, "completion_id"))
    elif not lookup.issued(about):
        raise NotFound(
            f"No answer '{about[:100]}'. Send the id the answer came with.",
            param="completion_id",
            code="completion_not_found",
        )
    said = {
        name: item[name]
        for name in ("id", "value", "comment", "correction", "name", "user")
        if item.get(name) is not None
    }
    at_s = min(float(created_at), now_s)
    parsed, _ = parse_feedback({**said, "completion_id": about}, tenant_id=tenant_id, now_s=at_s)
    return replace(parsed, created_at_s=at_s)


def _edge_id(text: str, param: str) -> str:
    if not _EDGE_ID.fullmatch(text):
        raise Invalid(
            f"{param}: an offline answer's id is edge-<24 to 40 hex digits>.", param=param
        )
    return text


def _is_shallow(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_is_shallow(inner, levels - 1) for inner in value)


def _check_text(item: Mapping[str, Any]) -> None:
    """The same rule as for feedback: what a database would have to bend is refused."""
    try:
        text = json.dumps(dict(item), ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise Invalid("The text holds half a UTF-16 pair; send valid Unicode.") from error
    except (ValueError, RecursionError) as error:
        raise Invalid("sampling: NaN, infinity and endless nesting are not taken.") from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise Invalid("The text holds a NUL character; remove it.")
