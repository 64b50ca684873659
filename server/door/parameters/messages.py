"""Limits of what the model is to read: messages, their parts and what media they hold.

The engine parses and renders them on its event loop, and takes many times longer over what is
misshapen: it tries every kind of item there is. So their outer shape is held here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import Invalid
from server.door.parameters.bounds import Limits, refuse

MESSAGES = 2_000
PARTS = 4_000
_WORDS = {"role": 32, "type": 64, "name": 256, "id": 256, "call_id": 256, "tool_call_id": 256}
_TEXTS = ("refusal", "reasoning", "reasoning_content")
_OBJECTS = {"audio": ("id",), "function_call": ("name", "arguments")}
_URLS = ("image_url", "audio_url", "video_url", "file_url", "url")
_EMBEDDINGS = ("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds", "image_pil")
_TEXT = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


@dataclass(frozen=True, slots=True)
class Messages:
    """Chat messages, or those of Anthropic's form; or a text, where `or_text`."""

    or_text: bool = False
    told: str = f"at most {MESSAGES:,} messages, {PARTS:,} parts and tool calls in them"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if self.or_text and isinstance(value, str):
            return
        check_counts(value, param, MESSAGES, self.told)
        for at, message in enumerate(value):
            check_words(message, f"{param}[{at}]")
            check_content(message.get("content"), f"{param}[{at}].content", limits)


@dataclass(frozen=True, slots=True)
class Content:
    """A text, or parts of one: Anthropic's `system`."""

    told: str = f"at most {PARTS:,} parts"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if isinstance(value, list) and len(value) > PARTS:
            raise refuse(param, f"{self.told} are taken; join them.")
        check_content(value, param, limits)


def check_counts(value: Any, param: str, most: int, told: str) -> None:
    """Raises Invalid for what is no list of objects, or more of them, or of parts in them."""
    if not isinstance(value, list):
        raise refuse(param, "must be a list.")
    if len(value) > most:
        raise refuse(param, f"{told} are taken; leave out the oldest, or join them.")
    parts = 0
    for at, message in enumerate(value):
        if not isinstance(message, dict):
            raise refuse(f"{param}[{at}]", "must be an object.")
        for name in ("content", "tool_calls", "output", "summary"):
            inner = message.get(name)
            if isinstance(inner, list):
                parts += len(inner) + sum(_nested(part) for part in inner)
    if parts > PARTS:
        raise refuse(param, f"{told} are taken; leave out the oldest, or join them.")


def _nested(part: Any) -> int:
    content = part.get("content") if isinstance(part, dict) else None
    return len(content) if isinstance(content, list) else 0


def check_words(message: Mapping[str, Any], where: str) -> None:
    """Raises Invalid for a message's fields that are of another type than anybody reads."""
    for name, chars in _WORDS.items():
        word = message.get(name)
        if word is not None and not (isinstance(word, str) and len(word) <= chars):
            raise refuse(f"{where}.{name}", f"must be a word of at most {chars} characters.")
    for name in _TEXTS:
        if not isinstance(message.get(name), str | None):
            raise refuse(f"{where}.{name}", "must be a string.")
    for name, fields in _OBJECTS.items():
        _check_texts(message.get(name), fields, f"{where}.{name}")
    calls = message.get("tool_calls")
    for call in _objects(calls, f"{where}.tool_calls") if calls is not None else ():
        _check_texts(call.get("function"), ("name", "arguments"), f"{where}.tool_calls.function")


def _check_texts(value: Any, fields: tuple[str, ...], where: str) -> None:
    if value is None:
        return
    if not isinstance(value, dict) or not all(isinstance(value.get(f), str) for f in fields):
        raise refuse(where, f"must be an object with {' and '.join(fields)}, which are strings.")


def check_content(content: Any, where: str, limits: Limits) -> None:
    """Raises Invalid for what is no text and no list of parts, and for media that are not there."""
    if content is None or isinstance(content, str):
        return
    for part in _objects(content, where, or_text=True):
        kind = part.get("type")
        if kind is not None and not (isinstance(kind, str) and len(kind) <= _WORDS["type"]):
            raise refuse(f"{where}.type", "must be a word.")
        if isinstance(kind, str) and not isinstance(part.get(_TEXT.get(kind, ""), ""), str):
            raise refuse(f"{where}.{_TEXT[kind]}", "must be a string.")
        _check_media(part, where, limits)
        if kind == "tool_result":
            check_content(part.get("content"), f"{where}.content", limits)


def _objects(value: Any, where: str, *, or_text: bool = False) -> Iterator[dict[str, Any]]:
    if not isinstance(value, list):
        raise refuse(where, "must be a list." if not or_text else "must be text or a list.")
    for part in value:
        if isinstance(part, dict):
            yield part
        elif not (or_text and isinstance(part, str)):
            raise refuse(where, "must hold objects.")


def _check_media(part: Mapping[str, Any], where: str, limits: Limits) -> None:
    for name in _EMBEDDINGS:
        if name in part or part.get("type") == name:
            raise Invalid(
                f"{where}: {name} is not taken; send the media itself.",
                param=where[:200],
                code="unsupported_parameter",
            )
    if part.get("uuid") is not None:
        # It names an entry of a cache that all tenants share.
        raise refuse(f"{where}.uuid", "is not taken; send the media each time.")
    source = part.get("source")
    for holder in (part, source if isinstance(source, dict) else {}):
        for name in _URLS:
            url = holder.get(name)
            _check_url(url.get("url") if isinstance(url, dict) else url, f"{where}.{name}", limits)


def _check_url(url: Any, where: str, limits: Limits) -> None:
    if url is None or (isinstance(url, str) and url[:5].lower() == "data:"):
        return
    if not (isinstance(url, str) and limits.fetches_media and url[:4].lower() == "http"):
        raise Invalid(
            f"{where}: this server fetches nothing from elsewhere; send the media itself, as a "
            "data: URL (data:image/png;base64,…).",
            param=where[:200],
            code="unsupported_parameter",
        )
