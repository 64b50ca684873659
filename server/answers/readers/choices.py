"""Chat completions and plain completions: choices, or chunks of them by index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from feedback.types import Choice
from server.answers.readers.transcript import Growing, Object, Transcript, objects, text


def read_document(document: Object) -> Transcript:
    """An answer in one piece."""
    transcript = Transcript()
    for choice in objects(document.get("choices", [])):
        message = choice.get("message") or choice  # a plain completion's text is the choice's own
        transcript.add(_said(message), _choice(choice, message))
    transcript.count(document.get("usage"))
    return transcript


def read_stream(events: Iterable[Object]) -> Transcript:
    """The chunks of an answer, put together."""
    transcript, growing = Transcript(), defaultdict[int, Growing](Growing)
    for event in events:
        if "error" in event:
            transcript.error = str(event["error"])
        for choice in objects(event.get("choices", [])):
            one = growing[choice.get("index", 0)]
            delta = choice.get("delta") or choice
            one.text.append(_said(delta))
            one.reasoning.append(_thought(delta))
            one.finish_reason = choice.get("finish_reason") or one.finish_reason
            if choice.get("stop_reason") is not None:
                one.stop_reason = choice["stop_reason"]
            for piece in objects(delta.get("tool_calls") or []):
                _merge(one.calls, piece)
        transcript.count(event.get("usage"))
    for index in sorted(growing):
        transcript.add("".join(growing[index].text), growing[index].choice())
    return transcript


def _choice(choice: Object, message: Object) -> Choice:
    return Choice(
        choice.get("finish_reason"),
        choice.get("stop_reason"),
        _thought(message) or None,
        tuple(objects(message.get("tool_calls") or [])),
    )


def _said(message: Object) -> str:
    return text(message.get("content")) or text(message.get("text"))


def _thought(message: Object) -> str:
    return text(message.get("reasoning")) or text(message.get("reasoning_content"))


def _merge(calls: dict[int, dict[str, Any]], piece: Object) -> None:
    """A piece of a call, which has its id and its name once and its arguments bit by bit."""
    call = calls.setdefault(
        piece.get("index", 0),
        {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
    )
    call["id"] = piece.get("id") or call["id"]
    call["type"] = piece.get("type") or call["type"]
    function = piece.get("function") or {}
    for key in ("name", "arguments"):
        call["function"][key] += text(function.get(key))
