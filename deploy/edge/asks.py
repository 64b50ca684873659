"""Bodies of requests, made into frozen types or refused with a reason. Pure.

Field names and limits are the server's; what a device cannot do is refused rather than passed over.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import Invalid
from core.ids import parse_client_id
from deploy.edge.types import Message, Note, Sampling

MAX_MESSAGES = 1_000
MAX_TEXT = 100_000
_SHORT = 256
_LONGEST_NAME = 128
_UP, _DOWN = ("up", "thumbs_up", "good"), ("down", "thumbs_down", "bad")
_UNLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,), "tools": ([],), "functions": ([],), "logprobs": (False,), "top_logprobs": (0,),
    "response_format": ({"type": "text"},), "frequency_penalty": (0,), "presence_penalty": (0,),
    "repetition_penalty": (1,), "min_p": (0,), "logit_bias": ({},), "guided_json": (),
    "structured_outputs": (), "audio": (), "best_of": (1,),
}  # fmt: skip
"""What the server's engine does and a device does not, with the values that ask for nothing."""

_NOTE_FIELDS = (
    "completion_id", "inference_id", "name", "metric_name", "value", "comment", "correction",
    "user", "end_user", "id",
)  # fmt: skip
_SERVER_ONLY = ("comparison", "choice_index", "source", "tags", "metadata", "dryrun", "episode_id")


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """A chat completion that was asked for."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool
    include_usage: bool
    user: str | None
    domain: str | None
    conversation_id: str | None


def parse_json(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body; Invalid for anything else, text that is not Unicode among it."""
    try:
        body = json.loads(raw)
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise Invalid("The request body is not valid JSON.", code="invalid_json") from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise Invalid("The text holds a NUL character; remove it.")
    if not isinstance(body, dict):
        raise Invalid("The request body must be a JSON object.", code="invalid_json")
    return body


def parse_chat(body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatAsk:
    """The chat completion a body asks for. Raises Invalid naming the field."""
    for name, harmless in _UNLESS.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise Invalid(f"{name} is not supported on a device; leave it out.", param=name)
    model = body.get("model")
    if not isinstance(model, str) or not model or len(model) > _SHORT:
        raise Invalid(
            'Say which model should answer, e.g. "model": "base". GET /v1/models lists them.',
            param="model",
            code="missing_required_parameter",
        )
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise Invalid("metadata must be an object.", param="metadata")
    stream, options = body.get("stream"), body.get("stream_options") or {}
    if stream is not None and not isinstance(stream, bool):
        raise Invalid("stream must be true or false.", param="stream")
    if not isinstance(options, dict):
        raise Invalid("stream_options must be an object.", param="stream_options")
    return ChatAsk(
        model=model,
        messages=_messages(body.get("messages")),
        sampling=_sampling(body),
        stream=bool(stream),
        include_usage=bool(options.get("include_usage")),
        user=_short(
            body.get("safety_identifier") or body.get("user") or metadata.get("user_id"), "user"
        ),
        domain=_short(headers.get("x-attune-domain") or metadata.get("domain"), "metadata.domain"),
        conversation_id=_short(
            headers.get("x-attune-conversation") or metadata.get("conversation_id"),
            "metadata.conversation_id",
        ),
    )


def parse_note(body: Mapping[str, Any], *, now_s: float) -> Note:
    """The feedback a body states, as the server's `POST /v1/feedback` reads it.

    Raises Invalid naming the field. Comparisons, tags and the like are the server's alone.
    """
    for field in body:
        if field in _SERVER_ONLY and body[field] not in (None, {}, [], 0, False):
            raise Invalid(f"{field} is not taken on a device; send it to the server.", param=field)
        if field not in _NOTE_FIELDS and field not in _SERVER_ONLY:
            raise Invalid(f"{field[:80]}: unknown field.", param=field[:80])
    target = _one_of(body, "completion_id", "inference_id")
    if not isinstance(target, str) or not target:
        raise Invalid(
            "completion_id: name the answer by the id it came with (edge-…).", param="completion_id"
        )
    comment = _text(body.get("comment"), "comment", 10_000)
    correction = _text(body.get("correction"), "correction", MAX_TEXT)
    if correction is not None and not correction.strip():
        raise Invalid("correction: the corrected answer is empty.", param="correction")
    comment = comment if comment and comment.strip() else None
    name = _short(_one_of(body, "name", "metric_name"), "name")
    if name is not None and len(name) > _LONGEST_NAME:
        raise Invalid(f"name: at most {_LONGEST_NAME} characters.", param="name")
    name, value = _thumb(name, body.get("value"))
    if value is None and comment is None and correction is None:
        raise Invalid("value: send at least one of value, comment, correction.", param="value")
    note_id = body.get("id")
    if note_id is not None and not isinstance(note_id, str):
        raise Invalid("id: must be a string.", param="id")
    return Note(
        id=parse_client_id(note_id) if note_id is not None else f"fb_{secrets.token_hex(12)}",
        completion_id=target,
        created_at_s=now_s,
        name=name or ("correction" if correction else "comment"),
        value=value,
        comment=comment,
        correction=correction,
        user=_short(_one_of(body, "user", "end_user"), "user"),
    )


def _messages(given: Any) -> tuple[Message, ...]:
    if not isinstance(given, list) or not given or len(given) > MAX_MESSAGES:
        raise Invalid(f"messages: send a list of 1 to {MAX_MESSAGES:,}.", param="messages")
    return tuple(_message(message, at) for at, message in enumerate(given))


def _message(given: Any, at: int) -> Message:
    where = f"messages[{at}]"
    if not isinstance(given, dict) or given.get("role") not in (
        "system",
        "user",
        "assistant",
        "developer",
    ):
        raise Invalid(
            f"{where}: send an object with role system, user or assistant and content.",
            param="messages",
        )
    content = given.get("content")
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(text, str) for text in texts):
            raise Invalid(f"{where}: only text parts are read on a device.", param="messages")
        content = "".join(text for text in texts if text)
    if not isinstance(content, str) or len(content) > MAX_TEXT:
        raise Invalid(
            f"{where}: content must be text, at most {MAX_TEXT:,} characters.", param="messages"
        )
    return {"role": "system" if given["role"] == "developer" else given["role"], "content": content}


def _sampling(body: Mapping[str, Any]) -> Sampling:
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if (
        not isinstance(stops, list)
        or len(stops) > 16
        or not all(isinstance(text, str) and 0 < len(text) <= 1_000 for text in stops)
    ):
        raise Invalid("stop: send a string or up to 16 strings, none empty.", param="stop")
    top_k = _whole(body, "top_k", -1, 1 << 20)
    tokens = _whole(body, "max_completion_tokens", 1, 1 << 30)
    return Sampling(
        temperature=_number(body, "temperature", 0.0, 2.0),
        top_p=_number(body, "top_p", 1e-6, 1.0),
        top_k=None if top_k is None else max(top_k, 0),
        max_tokens=tokens if tokens is not None else _whole(body, "max_tokens", 1, 1 << 30),
        seed=_whole(body, "seed", -(1 << 63), (1 << 63) - 1),
        stop=tuple(stops),
    )


def _number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not low <= value <= high:  # NaN is neither
        raise Invalid(f"{name} must be a number from {low:g} to {high:g}.", param=name)
    return float(value)


def _whole(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise Invalid(f"{name} must be a whole number from {low} to {high}.", param=name)
    return value


def _thumb(name: str | None, value: Any) -> tuple[str | None, bool | float | str | None]:
    """Name and value as the server stores them: a thumb unless another name is given."""
    if value is None:
        return name, None
    number = type(value) in (int, float) and abs(value) <= sys.float_info.max
    if not (isinstance(value, bool) or number or (isinstance(value, str) and len(value) <= 1_000)):
        raise Invalid(
            "value: send true or false, a finite number, or a string of at most 1,000 characters.",
            param="value",
        )
    if name is not None and name not in ("thumb", "thumbs"):
        return name, value
    if value is True or value == 1 or value in _UP:
        return "thumb", True
    if value is False or value in (0, -1) or value in _DOWN:
        return "thumb", False
    if name is None:
        raise Invalid("name: a value that is no thumb needs a name, e.g. 'score'.", param="name")
    raise Invalid("value: a thumb is true or false, 'up' or 'down', 1 or -1.", param="value")


def _one_of(body: Mapping[str, Any], name: str, other: str) -> Any:
    left, right = body.get(name), body.get(other)
    if left is not None and right is not None and left != right:
        raise Invalid(f"{name} and {other} mean the same but differ; send one.", param=name)
    return right if left is None else left


def _text(value: Any, name: str, limit: int) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= limit):
        return value
    raise Invalid(f"{name}: send a string of at most {limit:,} characters.", param=name)


def _short(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if (
        not isinstance(value, str)
        or not re.fullmatch(r".{1,256}", value)
        or not value.isprintable()
    ):
        raise Invalid(
            f"{name} must be a string of at most {_SHORT} printable characters.", param=name
        )
    return value
