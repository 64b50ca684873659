"""Stage: what the engine refuses under /v1/messages, in the form of Anthropic's API.

vLLM 0.32 writes OpenAI's envelope for some errors there, and names of its own in Anthropic's for
others. Knows nothing of what was asked.
"""

from __future__ import annotations

import json

from starlette.types import Message, Send

from server import anthropic
from server.door.call import Call, Onward


async def speak_anthropic(call: Call, onward: Onward) -> None:
    """Errors, whole or at the end of a stream, as clients of the endpoint read them."""
    if anthropic.speaks(call.scope["path"]):
        call.send = _Words(call.send, call.completion_id).send
    await onward(call)


class _Words:
    """Stands between vLLM and an Anthropic client for one answer."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self._refused: Message | None = None  # the start of an error, whose body is to come
        self._body = b""

    async def send(self, message: Message) -> None:
        """The `send` the stages behind are given."""
        if message["type"] == "http.response.start":
            named = (b"request-id", self._request_id.encode())  # where Anthropic's clients look
            message = {**message, "headers": [*message["headers"], named]}
            if message["status"] >= 400:
                self._refused = message
                return
        elif self._refused is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._refuse(self._refused)
            return
        elif message.get("body", b"").startswith(b"event: error\n"):
            message = {**message, "body": _error_event(message["body"])}
        await self._send(message)

    async def _refuse(self, start: Message) -> None:
        said = anthropic.envelope(start["status"], _told(self._body), self._request_id)
        body = json.dumps(said).encode()
        replaced = {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
        kept = [(name, value) for name, value in start["headers"] if name.lower() not in replaced]
        await self._send({**start, "headers": [*kept, *replaced.items()]})
        await self._send({"type": "http.response.body", "body": body})


def _told(body: bytes) -> str:
    """The message of an error in whatever envelope it came."""
    try:
        error = json.loads(body)["error"]
        return anthropic.naming(error.get("param"), str(error["message"]))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "The request was refused."


def _error_event(event: bytes) -> bytes:
    """vLLM's event, whose type no client of Anthropic's knows."""
    told = _told(event.partition(b"data: ")[2])
    return b"event: error\ndata: " + json.dumps(anthropic.envelope(500, told)).encode() + b"\n\n"
