"""`POST /v1/feedback`: our own form, one item a call.

Owns the accepted spellings (several products' field names mean the same) and the size limits.
Knows nothing of HTTP; whether the answers it names were given to the tenant is checked elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, WrapValidator

from core.bodies import Body, Resource, Time, invalid, is_shallow, says
from core.feedback_fields import MAX_TEXT, Comment, Name, Value, named, one_of, refusal
from core.ids import CompletionId, FeedbackId, TenantId, new_id, parse_client_id
from core.names import Title
from feedback.receivers.base import Caller, Receiver, Result, alone
from feedback.types import Comparison, Feedback, Kind, Teaches

MAX_JSON_BYTES = 16_384
_WRITABLE_DEPTH = 200
_TOO_DEEP = {"unreadable": "This metadata is nested too deeply to be shown."}

Answer = Annotated[str, Field(min_length=1, max_length=160)]
Short = Annotated[str, Field(min_length=1, max_length=256)]
Correction = Annotated[
    Annotated[str, Field(max_length=MAX_TEXT)]
    | Annotated[list[dict[str, Any]], Field(max_length=1_000)]
    | None,
    says(f"correction: send a string of at most {MAX_TEXT:,} characters, or chat messages."),
]


class ComparisonBody(Body):
    """One answer picked over others to the same prompt, all by completion id."""

    preferred: Answer
    rejected: Annotated[list[Answer], Field(min_length=1, max_length=16)]


class SourceBody(Body):
    """Who says it: a person, a model as judge, or a program."""

    kind: Literal["human", "llm", "code"] = "human"
    id: Title | None = None


class FeedbackBody(Body):
    """What `POST /v1/feedback` takes. Fields in one row of the guide are other names for one."""

    completion_id: Answer | None = None
    inference_id: Answer | None = None
    episode_id: str | None = None
    choice_index: Annotated[int, Field(ge=0, le=127)] = 0
    name: Name | None = None
    metric_name: Name | None = None
    value: Value = None
    comment: Comment | None = None
    correction: Correction = None
    comparison: ComparisonBody | None = None
    source: SourceBody = SourceBody()
    end_user: Title | None = None
    user: Title | None = None
    tags: Annotated[dict[Name, Short], Field(max_length=32)] = Field(default_factory=dict)
    metadata: Annotated[dict[str, Any], Field(max_length=64)] = Field(default_factory=dict)
    id: str | None = None
    dryrun: bool = False


class SourceView(BaseModel):
    """Who said it."""

    kind: Literal["human", "llm", "code"]
    id: str | None


class FeedbackView(Resource):
    """A feedback item as HTTP shows it."""

    object: Literal["feedback"] = "feedback"
    created_at: Time = Field(validation_alias="created_at_s")
    kind: Kind
    completion_id: str | None
    choice_index: int
    name: str
    value: bool | float | str | None
    comment: str | None
    correction: str | None
    comparison: Comparison | None
    source: SourceView
    user: str | None = Field(validation_alias="end_user")
    tags: Mapping[str, str]
    metadata: Mapping[str, Any]


def feedback_view(item: Feedback) -> FeedbackView:
    """The view of an item."""
    source = {"kind": item.source_kind, "id": item.source_id}
    # Stored before such depths were refused: a list must not fail for one item of it.
    metadata = item.metadata if is_shallow(item.metadata, _WRITABLE_DEPTH) else _TOO_DEEP
    return FeedbackView.of(item, kind=item.kind, source=source, metadata=metadata)


class Given(FeedbackView):
    """The answer to an item: as it is stored, and what it can teach.

    `reason`: why that is nothing, or less than it might be, as counted in a run's snapshot.
    """

    teaches: tuple[Teaches, ...]
    reason: str | None
    note: str


class Checked(Given):
    """The answer to a dry run: the item as it would be stored."""

    dryrun: Literal[True] = True


class Erased(BaseModel):
    """The answer to taking an item back."""

    id: str
    object: Literal["feedback.deleted"] = "feedback.deleted"
    deleted: Literal[True] = True


class NativeReceiver(Receiver[FeedbackBody | Result]):
    """Store one item durably before answering; the same id again is an update, not a second.

    404 for an answer this server never gave this tenant.
    """

    name = "native"
    path = "/v1/feedback"
    body = Annotated[FeedbackBody, WrapValidator(alone)]
    answer = Given | Checked
    tells_lessons = True
    statuses = ((201, "Stored."), (200, "Changed, the same as before, or a dry run."))

    def items(self, sent: FeedbackBody | Result) -> Sequence[FeedbackBody | Result]:
        return [sent]

    def dry_run(self, sent: FeedbackBody | Result) -> bool:
        return isinstance(sent, FeedbackBody) and sent.dryrun

    def read(self, item: FeedbackBody, sent: Any, caller: Caller) -> Feedback:
        return feedback_said(item, tenant_id=caller.tenant_id, at_s=caller.now_s)

    def respond(self, sent: Any, results: Sequence[Result]) -> tuple[int, BaseModel]:
        result = results[0]
        if result.error is not None:
            raise result.error
        assert isinstance(result.item, Feedback)
        assert result.lesson is not None
        told = dict(feedback_view(result.item)) | asdict(result.lesson)
        if result.change is None:
            return 200, Checked.model_construct(**told)
        return 201 if result.change == "created" else 200, Given.model_construct(**told)

    def erased(self, feedback_id: str) -> BaseModel:
        return Erased(id=feedback_id)


def feedback_stated(fields: Mapping[str, Any], *, tenant_id: TenantId, at_s: float) -> Feedback:
    """The feedback that a body of these fields states. Raises Invalid naming the field."""
    try:
        sent = FeedbackBody.model_validate(fields)
    except ValidationError as error:
        raise invalid(error.errors()) from error
    return feedback_said(sent, tenant_id=tenant_id, at_s=at_s)


def feedback_said(sent: FeedbackBody, *, tenant_id: TenantId, at_s: float) -> Feedback:
    """The feedback a body states. Raises Invalid naming the field.

    Without `name` the value is a thumb; see `core.feedback_fields` for its spellings.
    """
    if sent.episode_id is not None:
        raise refusal(
            "episode_id", "feedback on a whole conversation is not taken; send completion_id."
        )
    if len(json.dumps(sent.metadata)) > MAX_JSON_BYTES:
        raise refusal("metadata", f"at most {MAX_JSON_BYTES} bytes of JSON.")
    target = one_of(sent.completion_id, sent.inference_id, "completion_id", "inference_id")
    name = one_of(sent.name, sent.metric_name, "name", "metric_name")
    value, comment, correction = sent.value, sent.comment, _correction(sent.correction)
    # TensorZero's two reserved metric names carry their text in `value`.
    if name == "comment" and isinstance(value, str) and comment is None:
        value, comment = None, value
    if name == "demonstration" and isinstance(value, str) and correction is None:
        correction, value = _text(value, "value"), None
    comparison = _comparison(sent.comparison)
    name, value = named(name, value)
    if comment is not None and not comment.strip():
        comment = None
    if value is None and comment is None and correction is None and comparison is None:
        raise refusal("value", "send at least one of value, comment, correction, comparison.")
    if target is None and (comparison is None or value is not None or correction is not None):
        raise refusal("completion_id", "name the answer by the id it came with (chatcmpl-…).")
    if name is None:
        name = "comparison" if comparison else "correction" if correction else "comment"
    return Feedback(
        id=FeedbackId(parse_client_id(sent.id) if sent.id is not None else new_id("fb")),
        tenant_id=tenant_id,
        created_at_s=at_s,
        completion_id=CompletionId(target) if target is not None else None,
        choice_index=sent.choice_index,
        name=name,
        value=value,
        comment=comment,
        correction=correction,
        comparison=comparison,
        source_kind=sent.source.kind,
        source_id=sent.source.id,
        end_user=one_of(sent.end_user, sent.user, "end_user", "user"),
        tags=sent.tags,
        metadata=sent.metadata,
    )


def _comparison(sent: ComparisonBody | None) -> Comparison | None:
    if sent is None:
        return None
    rejected = dict.fromkeys(map(CompletionId, sent.rejected))
    if sent.preferred in rejected:
        raise refusal("comparison.rejected", "the preferred answer cannot be among the rejected.")
    return Comparison(CompletionId(sent.preferred), tuple(rejected))


def _correction(sent: str | list[dict[str, Any]] | None) -> str | None:
    if sent is None or isinstance(sent, str):
        return None if sent is None else _text(sent, "correction")
    for message in reversed(sent):
        if message.get("role") == "assistant":
            content = message.get("content")
            if isinstance(content, list):
                parts = [part.get("text") for part in content if isinstance(part, dict)]
                content = "\n".join(part for part in parts if isinstance(part, str))
            return _text(content if isinstance(content, str) else "", "correction")
    raise refusal("correction", "the messages hold no assistant message to learn from.")


def _text(text: str, param: str) -> str:
    if not text.strip():
        raise refusal(param, "the corrected answer is empty.")
    if len(text) > MAX_TEXT:
        raise refusal(param, f"at most {MAX_TEXT} characters.")
    return text
