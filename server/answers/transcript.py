"""Reads what was answered out of response bytes, per endpoint. Pure; runs off the token path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from server.answers.readers import choices, messages, responses
from server.answers.readers.transcript import Transcript

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

_READERS = {
    "chat.completions": (choices.read_document, choices.read_stream),
    "completions": (choices.read_document, choices.read_stream),
    "responses": (responses.read_document, responses.read_stream),
    "messages": (messages.read_document, messages.read_stream),
}


def read(endpoint: str, chunks: Sequence[bytes], *, streamed: bool) -> Transcript:
    """The transcript of one JSON document, or of a stream of server-sent events, also cut off."""
    read_document, read_stream = _READERS[endpoint]
    try:
        if streamed:
            return read_stream(_events(chunks))
        # Several times as quick as json.
        return read_document(msgspec.json.decode(b"".join(chunks)))
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
