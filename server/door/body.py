"""Stage: the request's body, no longer than it may be."""

from __future__ import annotations

from starlette.types import Message, Receive

from core.errors import Invalid, TooLarge
from server.door.call import Call, Onward
from server.door.requests import parse_request
from server.own_route import usual_limit


async def take_body(call: Call, onward: Onward) -> None:
    """Read what the engine is asked. Our own routes read theirs by themselves, up to the limit.

    Raises TooLarge, and Invalid for what is no inference request.
    """
    settings = call.runtime.settings
    limit = call.own.max_bytes(settings) if call.own else usual_limit(settings)
    length = call.headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    call.receive = _limited(call.receive, limit)
    if not call.endpoint:
        await call.answer()
        return
    call.begin(parse_request(await _whole(call.receive), call.headers, call.endpoint))
    await onward(call)


def _limited(receive: Receive, limit: int) -> Receive:
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return limited


async def _whole(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("The client went away before the request was complete.")
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is over this server's limit of {limit:,} bytes.")
