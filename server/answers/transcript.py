"""Reads what was answered out of response bytes, per endpoint. Pure; runs off the token path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

ENDPOINTS = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}

# Events begin lines, and JSON holds no raw line break: an answer that quotes a marker is not
# mistaken for one.
ENDS = re.compile(
    rb"^(data: \[DONE\]|event: (message_stop|response\.(completed|incomplete|failed)))",
    re.MULTILINE,
)
"""Marks the last bytes of a stream: they must not leave before the answer is durable."""


@dataclass(slots=True)
class Transcript:
    """The answer as text: one string per choice, and what else is worth keeping."""

    answers: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    document: Mapping[str, Any] | None = None  # of a response: the whole of it


def read(endpoint: str, chunks: Sequence[bytes], *, streamed: bool) -> Transcript:
    """The transcript of one JSON document, or of a stream of server-sent events, also cut off."""
    read_document, read_stream = _READERS[endpoint]
    try:
        if streamed:
            return read_stream(_events(chunks))
        return read_document(
            msgspec.json.decode(b"".join(chunks))
        )  # several times as quick as json
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Transcript(error="the response was not JSON")
    except (AttributeError, TypeError):
        return Transcript(error="the response has not the form its endpoint promises")


def _events(chunks: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in b"".join(chunks).split(b"\n"):
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            try:
                event = msgspec.json.decode(line[5:])
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # cut off in the middle
            if isinstance(event, dict):
                yield event


def _usage(transcript: Transcript, usage: Mapping[str, Any] | None) -> None:
    for name, count in (usage or {}).items():
        if name in ("prompt_tokens", "input_tokens") and isinstance(count, int):
            transcript.prompt_tokens = count
        elif name in ("completion_tokens", "output_tokens") and isinstance(count, int):
            transcript.completion_tokens = count


def _whole(
    said: Sequence[Mapping[str, Any]],
    finish_reason: str | None,
    calls: Sequence[Mapping[str, Any]],
    usage: Mapping[str, Any] | None,
) -> Transcript:
    """Of one answer, given in parts."""
    transcript = Transcript(["".join(part.get("text") or "" for part in said)], finish_reason)
    if calls:
        transcript.extra["tool_calls"] = calls
    _usage(transcript, usage)
    return transcript


def _choices_document(document: Mapping[str, Any]) -> Transcript:
    transcript = Transcript()
    for choice in document.get("choices", ()):
        message = choice.get("message") or choice  # a plain completion's text is the choice's own
        transcript.answers.append(message.get("content") or message.get("text") or "")
        transcript.finish_reason = transcript.finish_reason or choice.get("finish_reason")
        if message.get("tool_calls"):
            transcript.extra.setdefault("tool_calls", []).extend(message["tool_calls"])
    _usage(transcript, document.get("usage"))
    return transcript


def _choices_stream(events: Iterator[dict[str, Any]]) -> Transcript:
    transcript = Transcript()
    texts: dict[int, list[str]] = {}
    calls: dict[tuple[int, int], dict[str, Any]] = {}
    for event in events:
        if "error" in event:
            transcript.error = str(event["error"])
        for choice in event.get("choices", ()):
            index = choice.get("index", 0)
            delta = choice.get("delta") or choice
            texts.setdefault(index, []).append(delta.get("content") or delta.get("text") or "")
            for call in delta.get("tool_calls") or ():
                merged = calls.setdefault(
                    (index, call.get("index", 0)), {"function": {"name": "", "arguments": ""}}
                )
                function = call.get("function") or {}
                merged["id"] = call.get("id") or merged.get("id")
                for key in ("name", "arguments"):
                    merged["function"][key] += function.get(key) or ""
            transcript.finish_reason = choice.get("finish_reason") or transcript.finish_reason
        _usage(transcript, event.get("usage"))
    transcript.answers = ["".join(texts[index]) for index in sorted(texts)]
    if calls:
        transcript.extra["tool_calls"] = [calls[key] for key in sorted(calls)]
    return transcript


def _responses_document(document: Mapping[str, Any]) -> Transcript:
    output = document.get("output", ())
    said = [part for i in output if i.get("type") == "message" for part in i.get("content", ())]
    calls = [item for item in output if item.get("type") == "function_call"]
    transcript = _whole(said, document.get("status"), calls, document.get("usage"))
    transcript.document = document
    if transcript.finish_reason == "failed":
        transcript.error = str(document.get("error") or "the response failed")
    return transcript


def _responses_stream(events: Iterator[dict[str, Any]]) -> Transcript:
    parts: list[str] = []
    for event in events:
        kind = event.get("type", "")
        if kind == "response.output_text.delta":
            parts.append(event.get("delta") or "")
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            final = _responses_document(event.get("response", {}))
            final.answers = final.answers if any(final.answers) else ["".join(parts)]
            return final
    return Transcript(answers=["".join(parts)])


def _messages_document(document: Mapping[str, Any]) -> Transcript:
    content = document.get("content", ())
    said = [part for part in content if part.get("type") == "text"]
    calls = [part for part in content if part.get("type") == "tool_use"]
    return _whole(said, document.get("stop_reason"), calls, document.get("usage"))


def _messages_stream(events: Iterator[dict[str, Any]]) -> Transcript:
    transcript = Transcript()
    parts: list[str] = []
    for event in events:
        kind = event.get("type")
        if kind == "message_start":
            _usage(transcript, event.get("message", {}).get("usage"))
        elif kind == "content_block_delta":
            parts.append(event.get("delta", {}).get("text") or "")
        elif kind == "message_delta":
            transcript.finish_reason = event.get("delta", {}).get("stop_reason")
            _usage(transcript, event.get("usage"))
        elif kind == "error":
            transcript.error = str(event.get("error"))
    transcript.answers = ["".join(parts)]
    return transcript


_READERS = {
    "chat.completions": (_choices_document, _choices_stream),
    "completions": (_choices_document, _choices_stream),
    "responses": (_responses_document, _responses_stream),
    "messages": (_messages_document, _messages_stream),
}
