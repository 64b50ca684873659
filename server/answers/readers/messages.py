"""Anthropic's messages: one answer made of blocks, or events that build them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from feedback.types import Choice
from server.answers.readers.transcript import Object, Transcript, objects, text

_GROWS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def read_document(document: Object) -> Transcript:
    """A message in one piece."""
    transcript = Transcript()
    _add(transcript, objects(document.get("content", [])), document)
    transcript.count(document.get("usage"))
    return transcript


def read_stream(events: Iterable[Object]) -> Transcript:
    """The events of a message, put together."""
    transcript, blocks, ended = Transcript(), dict[int, dict[str, Any]](), dict[str, Any]()
    for event in events:
        kind, place = event.get("type"), event.get("index", 0)
        delta = event.get("delta") or {}
        if kind == "message_start":
            transcript.count((event.get("message") or {}).get("usage"))
        elif kind == "content_block_start":
            blocks[place] = dict(event.get("content_block") or {})
        elif kind == "content_block_delta":
            _grow(blocks.setdefault(place, {}), delta)
        elif kind == "message_delta":
            ended.update(delta)
            transcript.count(event.get("usage"))
        elif kind == "error":
            transcript.error = str(event.get("error"))
    whole = [_whole(blocks[place]) for place in sorted(blocks)]
    _add(transcript, whole, ended)
    return transcript


def _add(transcript: Transcript, blocks: list[Object], ended: Object) -> None:
    thought = "".join(text(block.get("thinking")) for block in blocks)
    calls = tuple(block for block in blocks if block.get("type") == "tool_use")
    choice = Choice(ended.get("stop_reason"), ended.get("stop_sequence"), thought or None, calls)
    said = (text(block.get("text")) for block in blocks if block.get("type") in ("text", None))
    transcript.add("".join(said), choice)


def _grow(block: dict[str, Any], delta: Object) -> None:
    name = _GROWS.get(delta.get("type", "text_delta"))
    if name is not None:
        block[name] = text(block.get(name)) + text(delta.get(name))


def _whole(block: dict[str, Any]) -> Object:
    """The block, its input read from the JSON it came as; a call cut short keeps that as it is."""
    if "partial_json" not in block:
        return block
    try:
        sent = msgspec.json.decode(block["partial_json"])
    except msgspec.DecodeError:
        return block
    return {**{key: value for key, value in block.items() if key != "partial_json"}, "input": sent}
