"""HTTP by hand over ASGI: bodies in, JSON and event streams out, errors in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from core.errors import (
    AttuneError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 4 << 20

_HTTP: dict[type[AttuneError], tuple[int, str]] = {
    Invalid: (400, "invalid_request_error"),
    Unauthenticated: (401, "authentication_error"),
    Forbidden: (403, "permission_error"),
    NotFound: (404, "not_found_error"),
    Conflict: (409, "conflict_error"),
    TooLarge: (413, "invalid_request_error"),
    Unavailable: (503, "service_unavailable_error"),
}


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers, names in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises TooLarge above 4 MiB, Invalid if the client left midway."""
    parts, size = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Invalid("The request ended before its body did.")
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES >> 20} MiB.")
        if not event.get("more_body"):
            return b"".join(parts)


async def send_json(
    send: Send, status: int, body: Mapping[str, Any], extra: Mapping[str, str] | None = None
) -> None:
    """A whole JSON answer."""
    raw = json.dumps(body, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(raw)), **(extra or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": raw})


async def send_error(send: Send, error: AttuneError) -> None:
    """An error answer; its body is `error_json`."""
    status = _known(error)[0]
    extra: dict[str, str] = {}
    if status == 401:
        extra["www-authenticate"] = "Bearer"
    if status == 409:
        extra["x-should-retry"] = "false"  # the openai client would retry a 409; ours is final
    if status == 503:
        extra["retry-after"] = "1"
    await send_json(send, status, error_json(error), extra)


def error_json(error: AttuneError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`."""
    return {
        "error": {
            "message": error.message,
            "type": _known(error)[1],
            "param": error.param,
            "code": error.code,
        }
    }


class EventStream:
    """A `text/event-stream` answer; its head goes out with the first event."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def event(self, data: Mapping[str, Any] | str, *, last: bool = False) -> None:
        """One event: an object, or the bare word that ends OpenAI's streams."""
        if not self._begun:
            self._begun = True
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        await self._send(
            {
                "type": "http.response.body",
                "body": f"data: {text}\n\n".encode(),
                "more_body": not last,
            }
        )


def _known(error: AttuneError) -> tuple[int, str]:
    return next(
        (known for cls, known in _HTTP.items() if isinstance(error, cls)), (500, "server_error")
    )
