"""Bodies of requests, made into frozen types or refused with a reason. Pure.

Field names and limits are the server's; what a device cannot do is refused rather than passed over.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.bodies import Body, check_text, invalid, says
from core.errors import Invalid
from core.feedback_fields import MAX_TEXT, Comment, Name, Value, named, one_of, refusal
from core.ids import parse_client_id
from core.names import parse_title, title_in_header
from deploy.edge.types import Message, Note, Sampling

MAX_MESSAGES = 1_000
_UNLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,), "tools": ([],), "functions": ([],), "logprobs": (False,), "top_logprobs": (0,),
    "response_format": ({"type": "text"},), "frequency_penalty": (0,), "presence_penalty": (0,),
    "repetition_penalty": (1,), "min_p": (0,), "logit_bias": ({},), "guided_json": (),
    "structured_outputs": (), "audio": (), "best_of": (1,),
}  # fmt: skip
"""What the server's engine does and a device does not, with the values that ask for nothing."""

_SERVER_ONLY = ("comparison", "choice_index", "source", "tags", "metadata", "dryrun", "episode_id")


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """A chat completion that was asked for."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
    domain: str | None = None
    conversation_id: str | None = None


def _title(text: str) -> str | None:
    return parse_title(text) or None


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _joined(content: Any) -> Any:
    """The text of a message, whole or in parts."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) else None for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("only text parts are read on a device")
    return "".join(str(text) for text in texts)


Short: TypeAlias = Annotated[str, AfterValidator(_title)]
Text: TypeAlias = Annotated[str, Field(max_length=MAX_TEXT)]
StopText: TypeAlias = Annotated[str, Field(min_length=1, max_length=1_000)]
Tokens: TypeAlias = Annotated[int, Field(ge=1, le=1 << 30)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class _Body(BaseModel):
    # Strict: pydantic must not make 1 of true, or "1" of 1.
    model_config = ConfigDict(strict=True, frozen=True)


class _Message(_Body):
    role: Annotated[Literal["system", "user", "assistant", "developer"], AfterValidator(_role)]
    content: Annotated[Text, BeforeValidator(_joined)]


class _Options(_Body):
    include_usage: bool | None = None


class _Metadata(_Body):
    user_id: Short | None = None
    domain: Short | None = None
    conversation_id: Short | None = None


class _ChatBody(_Body):
    model: Annotated[Short, Field(min_length=1)]
    messages: Annotated[list[_Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: _Options = _Options()
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 20)] | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Annotated[
        StopText | Annotated[list[StopText], Field(max_length=16)],
        says("stop: send a string or up to 16 strings, none empty."),
    ] = []
    safety_identifier: Short | None = None
    user: Short | None = None
    metadata: _Metadata = _Metadata()


class _NoteBody(Body):
    completion_id: str | None = None
    inference_id: str | None = None
    name: Name | None = None
    metric_name: Name | None = None
    value: Value = None
    comment: Comment | None = None
    correction: Text | None = None
    user: Short | None = None
    end_user: Short | None = None
    id: str | None = None


Parsed = TypeVar("Parsed", bound=BaseModel)


def parse_json(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body; Invalid for anything else, text that is not Unicode among it."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Invalid("The request body is not valid JSON.", code="invalid_json") from error
    check_text(body)
    if not isinstance(body, dict):
        raise Invalid("The request body must be a JSON object.", code="invalid_json")
    return body


def parse_chat(body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatAsk:
    """The chat completion a body asks for. Raises Invalid naming the field."""
    for name, harmless in _UNLESS.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise Invalid(f"{name} is not supported on a device; leave it out.", param=name)
    if not body.get("model"):
        raise Invalid(
            'Say which model should answer, e.g. "model": "base". GET /v1/models lists them.',
            param="model",
            code="missing_required_parameter",
        )
    asked = _parsed(_ChatBody, {key: value for key, value in body.items() if value is not None})
    about = asked.metadata
    return ChatAsk(
        model=asked.model,
        messages=tuple(message.model_dump() for message in asked.messages),
        sampling=Sampling(
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_k=None if asked.top_k is None else max(asked.top_k, 0),
            max_tokens=asked.max_completion_tokens or asked.max_tokens,
            seed=asked.seed,
            stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop),
        ),
        stream=asked.stream,
        include_usage=bool(asked.stream_options.include_usage),
        user=asked.safety_identifier or asked.user or about.user_id,
        domain=_headed(headers, "X-Attune-Domain") or about.domain,
        conversation_id=_headed(headers, "X-Attune-Conversation") or about.conversation_id,
    )


def _headed(headers: Mapping[str, str], name: str) -> str | None:
    # Starlette reads headers as Latin-1, which keeps every byte.
    return title_in_header(headers.get(name.lower(), "").encode("latin-1"), name)


def parse_note(body: Mapping[str, Any], *, now_s: float) -> Note:
    """The feedback a body states, as the server's `POST /v1/feedback` reads it.

    Raises Invalid naming the field. Comparisons, tags and the like are the server's alone.
    """
    for field in _SERVER_ONLY:
        if body.get(field) not in (None, {}, [], 0, False):
            raise Invalid(f"{field} is not taken on a device; send it to the server.", param=field)
    said = _parsed(_NoteBody, {key: body[key] for key in body if key not in _SERVER_ONLY})
    target = one_of(said.completion_id, said.inference_id, "completion_id", "inference_id")
    if not target:
        raise refusal("completion_id", "name the answer by the id it came with (edge-…).")
    if said.correction is not None and not said.correction.strip():
        raise refusal("correction", "the corrected answer is empty.")
    comment = said.comment if said.comment and said.comment.strip() else None
    name, value = named(one_of(said.name, said.metric_name, "name", "metric_name"), said.value)
    if value is None and comment is None and said.correction is None:
        raise refusal("value", "send at least one of value, comment, correction.")
    return Note(
        id=parse_client_id(said.id) if said.id is not None else f"fb_{secrets.token_hex(12)}",
        completion_id=target,
        created_at_s=now_s,
        name=name or ("correction" if said.correction else "comment"),
        value=value,
        comment=comment,
        correction=said.correction,
        user=one_of(said.user, said.end_user, "user", "end_user"),
    )


def _parsed(kind: type[Parsed], body: Mapping[str, Any]) -> Parsed:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        refused = invalid(error.errors(include_url=False, include_input=False))
        refused.param = str(refused.param).partition(".")[0]
        raise refused from error
