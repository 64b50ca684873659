"""The responses API: one answer made of items, or events that end in the whole of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feedback.types import Choice
from server.answers.readers.transcript import Growing, Object, Transcript, objects, text

_ENDS = ("response.completed", "response.incomplete", "response.failed")
_DELTAS = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.mcp_call_arguments.delta": "arguments",
}


def read_document(document: Object) -> Transcript:
    """A response object."""
    output = objects(document.get("output", []))
    said = [part for item in output if _is(item, "message") for part in _parts(item)]
    thought = [part for item in output if _is(item, "reasoning") for part in _thoughts(item)]
    calls = tuple(item for item in output if not _is(item, "message", "reasoning"))
    status, cut = document.get("status"), document.get("incomplete_details") or {}
    transcript = Transcript(document=document)
    choice = Choice(status, cut.get("reason"), _joined(thought) or None, calls)
    transcript.add(_joined(said), choice)
    transcript.count(document.get("usage"))
    if status == "failed":
        transcript.error = str(document.get("error") or "the response failed")
    return transcript


def read_stream(events: Iterable[Object]) -> Transcript:
    """The response that the last event holds; of a stream cut short, what had come."""
    growing = Growing()
    for event in events:
        kind = event.get("type", "")
        if kind in _ENDS:
            final = read_document(event.get("response", {}))
            if not any(final.answers):
                final.answers = ["".join(growing.text)]
            return final
        _grow(growing, kind, event)
    transcript = Transcript()
    transcript.add("".join(growing.text), growing.choice())
    return transcript


def _grow(growing: Growing, kind: str, event: Object) -> None:
    delta, place = text(event.get("delta")), event.get("output_index", 0)
    item: Any = event.get("item")
    if kind == "response.output_text.delta":
        growing.text.append(delta)
    elif kind == "response.reasoning_text.delta":
        growing.reasoning.append(delta)
    elif kind in ("response.output_item.added", "response.output_item.done"):
        if isinstance(item, dict) and not _is(item, "message", "reasoning"):
            growing.calls[place] = dict(item)
    elif kind in _DELTAS and place in growing.calls:
        call, name = growing.calls[place], _DELTAS[kind]
        call[name] = text(call.get(name)) + delta


def _is(item: Object, *kinds: str) -> bool:
    return item.get("type") in kinds


def _parts(item: Object) -> list[Object]:
    return objects(item.get("content") or [])


def _thoughts(item: Object) -> list[Object]:
    return _parts(item) or objects(item.get("summary") or [])


def _joined(parts: Iterable[Object]) -> str:
    return "".join(text(part.get("text")) or text(part.get("refusal")) for part in parts)
