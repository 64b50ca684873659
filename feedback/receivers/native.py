"""The body of `POST /v1/feedback`, made into one frozen Feedback or refused with a reason.

Owns the accepted spellings (several products' field names mean the same) and the size limits.
Knows nothing of HTTP; whether the completion id was issued to the tenant is checked elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import Invalid
from core.ids import CompletionId, FeedbackId, TenantId, new_id, parse_client_id
from feedback.types import Comparison, Feedback

MAX_TEXT = 100_000
MAX_JSON_BYTES = 16_384
UP = frozenset({"up", "thumbs_up", "good"})
DOWN = frozenset({"down", "thumbs_down", "bad"})

Answer = Annotated[str, Field(min_length=1, max_length=160)]
Short = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Number = Annotated[float, Field(allow_inf_nan=False)]
ValueText = Annotated[str, Field(max_length=1_000)]


class _Part(BaseModel):
    # Strict: pydantic must not make 1 of true, or "1" of 1.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ComparisonBody(_Part):
    """One answer picked over others to the same prompt, all by completion id."""

    preferred: Answer
    rejected: Annotated[list[Answer], Field(min_length=1, max_length=16)]


class SourceBody(_Part):
    """Who says it: a person, a model as judge, or a program."""

    kind: Literal["human", "llm", "code"] = "human"
    id: Short | None = None


class FeedbackBody(_Part):
    """What `POST /v1/feedback` takes. Fields in one row of the guide are other names for one."""

    completion_id: Answer | None = None
    inference_id: Answer | None = None
    episode_id: str | None = None
    choice_index: Annotated[int, Field(ge=0, le=127)] = 0
    name: Name | None = None
    metric_name: Name | None = None
    value: bool | Number | ValueText | None = None
    comment: Annotated[str, Field(max_length=10_000)] | None = None
    correction: (
        Annotated[str, Field(max_length=MAX_TEXT)]
        | Annotated[list[dict[str, Any]], Field(max_length=1_000)]
        | None
    ) = None
    comparison: ComparisonBody | None = None
    source: SourceBody = SourceBody()
    end_user: Short | None = None
    user: Short | None = None
    tags: Annotated[dict[Name, Short], Field(max_length=32)] = {}
    metadata: Annotated[dict[str, Any], Field(max_length=64)] = {}
    id: str | None = None
    dryrun: bool = False


def parse_feedback(
    body: Mapping[str, Any], *, tenant_id: TenantId, now_s: float
) -> tuple[Feedback, bool]:
    """The feedback a decoded JSON body states, and whether it is only a dry run.

    Raises Invalid naming the field. Without `name` the value is a thumb; a thumb may be true or
    false, "up" or "down", 1, 0 or -1.
    """
    sent = _validated(body)
    if sent.episode_id is not None:
        _refuse("episode_id", "feedback on a whole conversation is not taken; send completion_id.")
    target = _one_of(sent.completion_id, sent.inference_id, "completion_id", "inference_id")
    name = _one_of(sent.name, sent.metric_name, "name", "metric_name")
    value, comment, correction = sent.value, sent.comment, _correction(sent.correction)
    # TensorZero's two reserved metric names carry their text in `value`.
    if name == "comment" and isinstance(value, str) and comment is None:
        value, comment = None, value
    if name == "demonstration" and isinstance(value, str) and correction is None:
        correction, value = _text(value, "value"), None
    comparison = _comparison(sent.comparison)
    name, value = _named(name, value)
    if comment is not None and not comment.strip():
        comment = None
    if value is None and comment is None and correction is None and comparison is None:
        _refuse("value", "send at least one of value, comment, correction, comparison.")
    if target is None and (comparison is None or value is not None or correction is not None):
        _refuse("completion_id", "name the answer by the id it came with (chatcmpl-…).")
    if name is None:
        name = "comparison" if comparison else "correction" if correction else "comment"
    item = Feedback(
        id=FeedbackId(parse_client_id(sent.id) if sent.id is not None else new_id("fb")),
        tenant_id=tenant_id,
        created_at_s=now_s,
        completion_id=CompletionId(target) if target is not None else None,
        choice_index=sent.choice_index,
        name=name,
        value=value,
        comment=comment,
        correction=correction,
        comparison=comparison,
        source_kind=sent.source.kind,
        source_id=sent.source.id,
        end_user=_one_of(sent.end_user, sent.user, "end_user", "user"),
        tags=sent.tags,
        metadata=sent.metadata,
    )
    return item, sent.dryrun


def _refuse(param: str, message: str) -> NoReturn:
    raise Invalid(f"{param}: {message}", param=param)


def _validated(body: Mapping[str, Any]) -> FeedbackBody:
    for field in body:
        if field not in FeedbackBody.model_fields:
            near = get_close_matches(str(field), FeedbackBody.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "put your own data into metadata."
            _refuse(str(field)[:80], f"unknown field; {hint}")
    try:
        sent = FeedbackBody.model_validate(body)
    except ValidationError as error:
        raise _invalid(error) from error
    try:
        text = json.dumps(dict(body), ensure_ascii=False, allow_nan=False)
        metadata = json.dumps(sent.metadata)
        text.encode()
    except UnicodeEncodeError as error:
        raise Invalid("The text holds half a UTF-16 pair; send valid Unicode.") from error
    except (ValueError, RecursionError) as error:
        message = "metadata: NaN, infinity and endless nesting are not taken."
        raise Invalid(message, param="metadata") from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise Invalid("The text holds a NUL character; remove it.")
    if len(metadata) > MAX_JSON_BYTES:
        _refuse("metadata", f"at most {MAX_JSON_BYTES} bytes of JSON.")
    return sent


def _invalid(error: ValidationError) -> Invalid:
    first = error.errors(include_url=False, include_input=False)[0]
    where = [str(part) for part in first["loc"]]
    field = where[0] if where else "body"
    if field == "value":
        message = "send true or false, a finite number, or a string of at most 1,000 characters"
    elif field == "correction":
        message = f"send a string of at most {MAX_TEXT} characters, or chat messages"
    else:
        message = first["msg"]
    path = ".".join(where) if field not in ("value", "correction") else field
    return Invalid(f"{path or 'body'}: {message}.", param=path or None)


def _one_of(left: str | None, right: str | None, name: str, other: str) -> str | None:
    if left is not None and right is not None and left != right:
        _refuse(name, f"{name} and {other} mean the same but differ; send one of them.")
    return left if left is not None else right


def _named(
    name: str | None, value: bool | float | str | None
) -> tuple[str | None, bool | float | str | None]:
    if value is None:
        return name, None
    if name is not None and name not in ("thumb", "thumbs"):
        return name, value
    if isinstance(value, bool):
        return "thumb", value
    if value == 1 or value in UP:
        return "thumb", True
    if value in (0, -1) or value in DOWN:
        return "thumb", False
    if name is None:
        _refuse("name", "a value that is no thumb needs a name, for example 'score'.")
    _refuse("value", "a thumb is true or false, 'up' or 'down', 1 or -1.")


def _comparison(sent: ComparisonBody | None) -> Comparison | None:
    if sent is None:
        return None
    rejected = dict.fromkeys(map(CompletionId, sent.rejected))
    if sent.preferred in rejected:
        _refuse("comparison.rejected", "the preferred answer cannot be among the rejected.")
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
    _refuse("correction", "the messages hold no assistant message to learn from.")


def _text(text: str, param: str) -> str:
    if not text.strip():
        _refuse(param, "the corrected answer is empty.")
    if len(text) > MAX_TEXT:
        _refuse(param, f"at most {MAX_TEXT} characters.")
    return text
