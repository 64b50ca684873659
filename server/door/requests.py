"""What Attune reads in a request body, and how the body changes on its way to the engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from core.bodies import check_depth, not_an_object
from core.errors import Invalid
from core.ids import TenantId
from core.names import title_in_header, title_of
from core.text import decoded
from server.door.parameters.check import told
from server.door.parameters.tools import without_empty_tools

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "max_completion_tokens",
    "max_output_tokens", "frequency_penalty", "presence_penalty", "repetition_penalty", "stop", "n",
)  # fmt: skip
_PROMPTS = ("messages", "prompt", "input", "instructions", "system")


@dataclass(frozen=True, slots=True)
class Asked:
    """The parts of a request that routing and recording need."""

    body: dict[str, Any]
    model: str
    end_user: str | None
    domain: str | None
    conversation_id: str | None
    hides_usage: bool
    """We ask for the token counts of a stream whose client did not: they are not for it."""


def parse_request(raw: bytes, headers: Mapping[bytes, bytes], endpoint: str) -> Asked:
    """Read an inference request's body. Raises Invalid for anything that is not a JSON object
    with a model name, or with fields of the wrong type."""
    body = decoded(raw)
    if not isinstance(body, dict):
        raise not_an_object()
    check_depth(body)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Invalid(
            'Say which model should answer, e.g. "model": "base" or "auto". GET /v1/models '
            "lists what this key may use.",
            param="model",
            code="missing_required_parameter",
        )
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise Invalid("metadata must be an object.", param="metadata")
    metadata = metadata or {}
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        # vLLM would read "false" as false and 1 as true; we must read the same.
        raise Invalid("stream must be true or false.", param="stream")
    return Asked(
        body=body,
        model=model,
        end_user=title_of(
            body.get("safety_identifier") or body.get("user") or metadata.get("user_id"), "user"
        ),
        domain=title_in_header(headers.get(b"x-attune-domain", b""), "X-Attune-Domain")
        or title_of(metadata.get("domain"), "metadata.domain"),
        conversation_id=title_in_header(
            headers.get(b"x-attune-conversation", b""), "X-Attune-Conversation"
        )
        or title_of(metadata.get("conversation_id"), "metadata.conversation_id"),
        hides_usage=bool(stream) and _counts_unasked(body, endpoint),
    )


def engine_body(
    asked: Asked,
    *,
    endpoint: str,
    path: str,
    engine_model: str,
    tenant_id: TenantId,
    request_id: str,
) -> bytes:
    """The body the engine gets at `path`: what it is told of it, its own model name, the tenant's
    cache salt, our request id."""
    body = without_empty_tools(told(path, asked.body))
    body["model"] = engine_model
    # The prefix cache is shared by all; without a salt its timing tells what others asked.
    salt = body.get("cache_salt")
    body["cache_salt"] = f"{tenant_id}:{salt}" if isinstance(salt, str) and salt else tenant_id
    if endpoint == "responses":
        body["request_id"] = request_id
        body.pop("previous_response_id", None)  # the input holds what came before
    if asked.hides_usage:
        # Alone, `continuous_usage_stats` asks for nothing; beside our wish it would.
        body["stream_options"] = {
            **(body.get("stream_options") or {}),
            "include_usage": True,
            "continuous_usage_stats": False,
        }
    return msgspec.json.encode(body)


def _counts_unasked(body: Mapping[str, Any], endpoint: str) -> bool:
    if endpoint not in ("chat.completions", "completions"):
        return False
    options = body.get("stream_options")
    return options is None or (isinstance(options, dict) and not options.get("include_usage"))


def kept_document(
    body: Mapping[str, Any], document: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """The response, if it can be fetched later: with `store` false it cannot."""
    return None if body.get("store") is False else document


def recorded_sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling parameters that were asked for."""
    return {name: body[name] for name in _SAMPLING if name in body}


def recorded_rest(body: Mapping[str, Any]) -> dict[str, Any]:
    """Everything else of the body, so that a request can be told in full."""
    left_out = (*_SAMPLING, *_PROMPTS, "model")
    return {name: value for name, value in body.items() if name not in left_out}
