"""Stages of `/v1/responses` alone: a request that goes on from an earlier response gets the whole
conversation as its input, and its answer names what it went on from.

vLLM's own store of responses knows no tenants and is off; ours is the record of answers. This is
the one request that waits for the database before it is answered, and in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from starlette.types import Message, Send

from core.errors import Invalid, NotFound
from feedback.types import Interaction
from server.answers.responses import continued
from server.door.call import Call, Onward

_PREVIOUS = "previous_response_id"
_REFUSED = {
    "background": "Nothing is answered in the background here: leave `background` away, and read "
    "the answer as a stream if it takes long.",
    "conversation": "Conversations are not kept here: go on from an earlier response with "
    "`previous_response_id`, or send the whole conversation as `input`.",
}


async def continue_conversation(call: Call, onward: Onward) -> None:
    """Put what was said before into the input.

    Raises Invalid for what this server does not do, NotFound for a response the tenant has not.
    """
    if call.endpoint == "responses":
        _check(call.asked.body)
        previous_id = call.asked.body.get(_PREVIOUS)
        if previous_id is not None:
            before = await _previous(call, previous_id)
            call.asked = replace(call.asked, body=_with_history(call.asked.body, before))
    await onward(call)


async def name_previous(call: Call, onward: Onward) -> None:
    """Have the response say what it went on from, which the engine was not told."""
    if call.endpoint == "responses":
        previous_id = call.asked.body.get(_PREVIOUS)
        if previous_id is not None:
            call.send = _Naming(call.send, previous_id).send
    await onward(call)


def _check(body: Mapping[str, Any]) -> None:
    for field, told in _REFUSED.items():
        if body.get(field) not in (None, False):
            raise Invalid(told, param=field, code="unsupported_parameter")
    if not isinstance(body.get("store"), bool | None):
        # vLLM would read "no" as false; we must read the same.
        raise Invalid("store must be true or false.", param="store")
    previous_id = body.get(_PREVIOUS)
    if previous_id is None:
        return
    if not isinstance(previous_id, str):
        raise Invalid(f"{_PREVIOUS} must be the id of a response.", param=_PREVIOUS)
    if body.get("previous_input_messages"):
        raise Invalid(
            f"Send {_PREVIOUS} or previous_input_messages, not both.",
            param="previous_input_messages",
        )


async def _previous(call: Call, previous_id: str) -> Interaction:
    before = await call.runtime.responses.look(call.key.tenant_id, previous_id)
    if before is None:
        raise NotFound(
            f"Previous response with id {previous_id[:80]!r} not found. It may have been deleted, "
            "or answered with `store` false.",
            param=_PREVIOUS,
            code="previous_response_not_found",
        )
    return before


def _with_history(body: Mapping[str, Any], before: Interaction) -> dict[str, Any]:
    new = body.get("input")
    if not isinstance(new, str | list | None):
        return dict(body)  # the engine says what is wrong with it
    return {**body, "input": continued(before, new)}


class _Naming:
    """Stands between vLLM and the record, so that both it and the client read the same."""

    def __init__(self, send: Send, previous_id: str) -> None:
        self._send = send
        self._previous_id = previous_id
        self._start: Message | None = None  # of a document, whose length is not known yet
        self._chunks: list[bytes] = []
        self._streams = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            self._streams = kind.startswith(b"text/event-stream")
            if message["status"] < 400 and not self._streams:
                self._start = message
            else:
                await self._send(message)
        elif self._start is not None:
            await self._on_document(self._start, message)
        elif self._streams:
            await self._send({**message, "body": self._in_events(message.get("body", b""))})
        else:
            await self._send(message)

    async def _on_document(self, start: Message, message: Message) -> None:
        self._chunks.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = self._in_response(b"".join(self._chunks), of_event=False)
        headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _in_events(self, body: bytes) -> bytes:
        if b'"response":' not in body:
            return body  # all but the first and the last events
        lines = body.split(b"\n")
        return b"\n".join(
            b"data: " + self._in_response(line[5:], of_event=True)
            if line.startswith(b"data:")
            else line
            for line in lines
        )

    def _in_response(self, raw: bytes, *, of_event: bool) -> bytes:
        try:
            told = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return raw.strip()
        response = told.get("response") if of_event and isinstance(told, dict) else told
        if isinstance(response, dict):
            response[_PREVIOUS] = self._previous_id
        return msgspec.json.encode(told)
