"""Stages: what may be asked at all, whose request it is, by the API key alone, and its body, no
longer than it may be. Everything that is not listed here does not exist."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence

from starlette.types import Message, Receive

from core.clock import now_s
from core.errors import Invalid, TooLarge, Unauthenticated, WrongMethod
from core.identity.keys import require, split_key, verify
from server.answers.transcript import ENDPOINTS
from server.door.call import COUNTING, Call, Onward
from server.door.credentials import key_text
from server.door.requests import parse_request
from server.errors import no_endpoint
from server.own_route import OwnRoute

_ENGINE = ENDPOINTS | dict.fromkeys(
    ("/tokenize", "/detokenize", "/v1/messages/count_tokens"), COUNTING
)
_OPEN: Mapping[str, tuple[str, ...]] = {
    "/health": ("GET", "HEAD"),
    "/ping": ("GET", "HEAD", "POST"),
    "/version": ("GET",),
    "/load": ("GET",),
    "/metrics": ("GET",),
}
_DESCRIPTION = frozenset({"/openapi.json", "/docs"})


class AllowList:
    """Lets through vLLM's endpoints listed above and `own`, the routes of our own.

    Health and the description of our API need no key: they are answered at once.
    """

    def __init__(self, own: Sequence[OwnRoute]) -> None:
        self._own = own
        description = _DESCRIPTION & {route.path for route in own}
        self._open = {**_OPEN, **dict.fromkeys(description, ("GET",))}

    async def __call__(self, call: Call, onward: Onward) -> None:
        path, method = call.scope["path"], call.scope["method"]
        if path in self._open:
            _check_method(method, path, self._open[path])
            if path == "/metrics":
                _check_metrics(call)
            await call.answer()
            return
        if path in _ENGINE:
            _check_method(method, path, ("POST",))
            call.endpoint = _ENGINE[path]
        else:
            call.own = self._route(method, path)
        if "\0" in path or b"%00" in call.scope.get("query_string", b""):
            raise Invalid("The address holds a NUL character.")  # Postgres takes none, SQLite does
        await onward(call)

    def _route(self, method: str, path: str) -> OwnRoute:
        here = [route for route in self._own if route.form.fullmatch(path)]
        if not here:
            raise no_endpoint(method, path)
        _check_method(method, path, sorted({known for route in here for known in route.methods}))
        return next(route for route in here if method in route.methods)


def _check_method(method: str, path: str, allowed: Sequence[str]) -> None:
    if method not in allowed:
        takes = ", ".join(allowed)
        raise WrongMethod(f"{path[:200]} takes {takes}, not {method[:20]}.", allowed=allowed)


def _check_metrics(call: Call) -> None:
    token = call.runtime.settings.metrics_token
    given = call.headers.get(b"authorization", b"")
    client = (call.scope.get("client") or ("",))[0]
    if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise Unauthenticated("/metrics needs the bearer token set in ATTUNE_METRICS_TOKEN.")
    if not token and client not in ("127.0.0.1", "::1", ""):
        raise Unauthenticated(
            "/metrics answers this machine only, until ATTUNE_METRICS_TOKEN sets a bearer token."
        )


async def check_key(call: Call, onward: Onward) -> None:
    """Unauthenticated without a valid key, Forbidden without the scope for inference; our own
    routes find the key in the request's state and say themselves which scope they need."""
    takes_basic = call.own is not None and call.own.takes_basic
    public_id, secret_sha256 = split_key(key_text(call.headers, takes_basic=takes_basic))
    call.key = verify(await call.runtime.sync.key(public_id), secret_sha256, now_s())
    call.scope.setdefault("state", {})["attune_key"] = call.key
    if call.endpoint:
        require(call.key, "inference")
    await onward(call)


async def take_body(call: Call, onward: Onward) -> None:
    """Read what the engine is asked. Our own routes read theirs by themselves, up to the limit.

    Raises TooLarge, and Invalid for what is no inference request.
    """
    settings = call.runtime.settings
    limit = call.own.limit_bytes(settings) if call.own else settings.max_body_bytes
    length = call.headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    call.receive = _limited(call.receive, limit)
    if not call.endpoint:
        await call.answer()
        return
    call.asked = parse_request(await _whole(call.receive), call.headers, call.endpoint)
    call.asked_at_s, call.began = now_s(), time.perf_counter()
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
