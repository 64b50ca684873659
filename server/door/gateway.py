"""The door: one ASGI middleware around vLLM's app that decides who may ask what, sends each
request to the right weights, and makes every answer durable before its last byte leaves.

Order for an inference request: allow-list, key, scope, body (size, JSON), route, lease on the
adapter, vLLM, tap, commit. The per-chunk path copies nothing and does no I/O.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from adapters.routing import engine_name, route
from adapters.types import Route
from core.clock import now_s
from core.errors import AttuneError, Invalid, NotFound, TooLarge, Unauthenticated, Unavailable
from core.identity.keys import require, split_key, verify
from core.identity.types import ApiKey
from feedback.receivers import receiver_at
from server import metrics
from server.answers.completion_ids import PREFIXES
from server.answers.transcript import ENDPOINTS
from server.door.requests import Asked, engine_body, parse_request
from server.door.tap import Tap
from server.errors import http_error
from server.runtime import Runtime

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Paths of vLLM that a tenant may reach beside the recorded ones; everything else does not exist.
_ROUTED = frozenset({"/tokenize", "/detokenize", "/v1/messages/count_tokens"})
_OPEN = frozenset({"/health", "/ping", "/version", "/load", "/docs", "/openapi.json"})
_OURS = re.compile(r"/v1/(?:models|feedback|adapters|runs|exports|edge)(?:/.*)?")


class Gateway:
    """ASGI middleware; `runtime()` yields the running parts, or None while starting up."""

    def __init__(self, app: App, runtime: Callable[[], Runtime | None]) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await _refuse_websocket(receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._handle(scope, receive, noting)
        except AttuneError as error:
            if started:
                raise  # the server breaks the connection off, so that the client notices
            metrics.REFUSED.labels(error.code).inc()
            status, body, headers = http_error(error, scope["path"])
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path in _OPEN:
            await self._app(scope, receive, send)
            return
        runtime = self._runtime()
        if runtime is None:
            raise Unavailable("The server is still starting; try again in a moment.")
        headers = dict(scope["headers"])
        if path == "/metrics":
            _require_metrics(runtime, scope, headers)
            await self._app(scope, receive, send)
            return
        endpoint = ENDPOINTS.get(path)
        ours = _OURS.fullmatch(path) or receiver_at(path)
        if endpoint is None and path not in _ROUTED and not ours:
            raise NotFound(f"No such endpoint: {scope['method']} {path[:200]}.")
        if "\0" in path or b"%00" in scope.get("query_string", b""):
            raise Invalid("The address holds a NUL character.")  # Postgres takes none, SQLite does
        key = await _authenticate(runtime, headers, path)
        if endpoint is None and path not in _ROUTED:
            scope.setdefault("state", {})["attune_key"] = key
            await self._app(scope, _limited(receive, runtime, headers, path), send)
            return
        if scope["method"] != "POST":
            raise NotFound(f"No such endpoint: {scope['method']} {path}.")
        require(key, "inference")
        raw = await _read_body(receive, runtime.settings.max_body_bytes, headers)
        asked = parse_request(raw, headers)
        chosen = await _route(runtime, key, asked)
        await self._forward(runtime, scope, receive, send, key, endpoint, asked, chosen)

    async def _forward(
        self,
        runtime: Runtime,
        scope: Scope,
        receive: Receive,
        send: Send,
        key: ApiKey,
        endpoint: str | None,
        asked: Asked,
        chosen: Route,
    ) -> None:
        token = runtime.signer.token(key.tenant_id)
        request_id = PREFIXES[endpoint or "completions"] + token
        if chosen.version is None or chosen.adapter is None:
            name = runtime.served_name
        else:
            name = engine_name(key.tenant_id, chosen.adapter, chosen.version)
        body = engine_body(
            asked,
            endpoint=endpoint or "",
            engine_model=name,
            tenant_id=key.tenant_id,
            request_id=request_id,
        )
        inner = dict(scope)
        inner["headers"] = [
            (header, value)
            for header, value in scope["headers"]
            if header not in (b"x-request-id", b"content-length")
        ] + [(b"x-request-id", token.encode()), (b"content-length", str(len(body)).encode())]
        replay = _replay(body, receive)
        if endpoint is None:
            await self._leased(runtime, name, chosen, inner, replay, send, generates=False)
            return
        tap = Tap(runtime, send, key.tenant_id, endpoint, asked, chosen, request_id)
        try:
            await self._leased(runtime, name, chosen, inner, replay, tap.send)
        except AttuneError:
            tap.refused()
            raise
        finally:
            tap.end()

    async def _leased(
        self,
        runtime: Runtime,
        name: str,
        chosen: Route,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        generates: bool = True,
    ) -> None:
        if chosen.version is None:
            await self._app(scope, receive, send)
            return
        async with runtime.residency.lease(name, chosen.version, generates=generates):
            await self._app(scope, receive, send)


async def _authenticate(runtime: Runtime, headers: dict[bytes, bytes], path: str) -> ApiKey:
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    receiver = receiver_at(path)
    # Anthropic's client sends its key as x-api-key.
    text = headers.get(b"x-api-key", b"").decode("latin-1")
    if authorization[:7].lower() == "bearer ":
        text = authorization[7:].strip()
    elif receiver is not None and receiver.auth == "basic":
        text = _password(authorization) or text
    if not text:
        raise Unauthenticated(
            "No API key. Send 'Authorization: Bearer sk-at-…'; make one with "
            "`attune keys create --tenant NAME`."
        )
    public_id, secret_sha256 = split_key(text)
    known, unknown = runtime.sync.directory, runtime.unknown
    if public_id not in known.keys and unknown.worth_a_look(public_id, known.change):
        try:
            await runtime.sync.look()  # a key made a moment ago must work at once
        finally:
            unknown.looked(public_id, runtime.sync.directory.change)
    return verify(runtime.sync.directory.keys.get(public_id), secret_sha256, now_s())


def _password(authorization: str) -> str | None:
    """The password of Basic credentials; None if they are none."""
    if authorization[:6].lower() != "basic ":
        return None
    try:
        return base64.b64decode(authorization[6:]).decode().partition(":")[2]
    except ValueError:
        return None


async def _route(runtime: Runtime, key: ApiKey, asked: Asked) -> Route:
    for attempt in (1, 2):
        try:
            return route(
                runtime.sync.directory,
                key.tenant_id,
                asked.model,
                served_name=runtime.served_name,
                end_user=asked.end_user,
                domain=asked.domain,
            )
        except NotFound:
            name, unknown = (key.tenant_id, asked.model), runtime.unknown
            if attempt == 2 or not unknown.worth_a_look(name, runtime.sync.directory.change):
                raise
            try:
                await runtime.sync.refresh()  # perhaps registered a moment ago
            finally:
                unknown.looked(name, runtime.sync.directory.change)
    raise AssertionError("unreachable")


async def _read_body(receive: Receive, limit: int, headers: dict[bytes, bytes]) -> bytes:
    _check_length(headers, limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("The client went away before the request was complete.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _limited(receive: Receive, runtime: Runtime, headers: dict[bytes, bytes], path: str) -> Receive:
    uploads = path.startswith("/v1/adapters/") and path.endswith("/versions")
    limit = runtime.settings.max_upload_bytes if uploads else runtime.settings.max_body_bytes
    receiver = receiver_at(path)
    if receiver is not None and receiver.max_bytes is not None:
        limit = receiver.max_bytes
    _check_length(headers, limit)
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return limited


def _check_length(headers: dict[bytes, bytes], limit: int) -> None:
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is over this server's limit of {limit:,} bytes.")


def _replay(body: bytes, receive: Receive) -> Receive:
    """The rewritten body once, then whatever the connection says (the disconnect)."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def _require_metrics(runtime: Runtime, scope: Scope, headers: dict[bytes, bytes]) -> None:
    token = runtime.settings.metrics_token
    if token:
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise Unauthenticated("/metrics needs the bearer token set in ATTUNE_METRICS_TOKEN.")
        return
    client = (scope.get("client") or ("",))[0]
    if client not in ("127.0.0.1", "::1", ""):
        raise Unauthenticated(
            "/metrics answers this machine only, until ATTUNE_METRICS_TOKEN sets a bearer token."
        )


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": "not available"})
