"""The device's HTTP server: chat completions, models, feedback, health. An ASGI app.

Owns routes and who may call them. Answers come from `answering`, records go to `store`.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Any

from core.errors import AttuneError, Forbidden, Invalid, NotFound, Unauthenticated
from deploy.edge.answering import Answering, Begun, Ended, Told
from deploy.edge.asgi import (
    EventStream,
    Receive,
    Scope,
    Send,
    error_json,
    headers_of,
    read_body,
    send_error,
    send_json,
)
from deploy.edge.asks import ChatAsk, parse_chat, parse_json, parse_note
from deploy.edge.installed import Installation
from deploy.edge.store import Store
from deploy.edge.types import Note

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class EdgeApp:
    """The app. Without a `key` it answers only requests that name this machine as their host."""

    def __init__(
        self, installation: Installation, answering: Answering, store: Store, key: str | None = None
    ) -> None:
        self._installation = installation
        self._answering = answering
        self._store = store
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; errors in OpenAI's form."""
        try:
            await self._route(scope, receive, send)
        except AttuneError as error:
            await send_error(send, error)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"].rstrip("/")
        headers = headers_of(scope)
        if (method, path) == ("GET", "/health"):
            return await send_json(send, 200, {"status": "ok"})
        self._admit(headers)
        if (method, path) == ("GET", "/v1/models"):
            return await send_json(send, 200, self._models())
        if method == "POST" and path in ("/v1/chat/completions", "/v1/feedback"):
            # Browsers send other sites' requests without asking only if they are not JSON.
            if not headers.get("content-type", "").startswith("application/json"):
                raise Invalid("Send Content-Type: application/json.", param="content-type")
            body = parse_json(await read_body(receive))
            if path == "/v1/feedback":
                return await self._feedback(body, send)
            return await self._chat(parse_chat(body, headers), receive, send)
        raise NotFound(
            f"No {method} {path[:100]} here. There are POST /v1/chat/completions, "
            "GET /v1/models, POST /v1/feedback, GET /health.",
        )

    def _admit(self, headers: dict[str, str]) -> None:
        if self._key is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() == "bearer" and hmac.compare_digest(given.encode(), self._key.encode()):
                return
            raise Unauthenticated("Send the device's key: Authorization: Bearer ….")
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in LOOPBACK:
            # A page of another site may have pointed its own name at this machine.
            raise Forbidden(
                f"Without a key this server answers to {', '.join(LOOPBACK)} only. Start it with "
                "--key to allow other names."
            )

    def _models(self) -> dict[str, Any]:
        created = 0
        with suppress(ValueError):
            made = datetime.fromisoformat(self._installation.manifest.created_at)
            created = int(made.timestamp())
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": created, "owned_by": "attune"}
                for name in self._installation.names()
            ],
        }

    async def _feedback(self, body: dict[str, Any], send: Send) -> None:
        note = parse_note(body, now_s=time.time())
        created = await asyncio.to_thread(self._keep, note)
        await send_json(send, 201 if created else 200, note_json(note))

    def _keep(self, note: Note) -> bool:
        if not self._store.has_answer(note.completion_id):
            raise NotFound(
                f"No answer '{note.completion_id[:100]}' was given here. Send the id the answer "
                "came with (its 'id' field).",
                param="completion_id",
                code="completion_not_found",
            )
        return self._store.put_note(note)

    async def _chat(self, ask: ChatAsk, receive: Receive, send: Send) -> None:
        gone = Event()
        watch = asyncio.create_task(_watch(receive, gone))
        try:
            events = self._events(ask, gone)
            if ask.stream:
                await _stream(events, send, include_usage=ask.include_usage)
            else:
                await _whole(events, send)
        finally:
            gone.set()
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _events(self, ask: ChatAsk, gone: Event) -> AsyncIterator[Told]:
        """What the answering thread tells, as it comes; raises what it raised."""
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Told | None] = asyncio.Queue()

        def tell(event: Told | None) -> None:
            loop.call_soon_threadsafe(told.put_nowait, event)

        future = self._answering.submit(ask, tell, gone)
        future.add_done_callback(lambda _: tell(None))
        while (event := await told.get()) is not None:
            yield event
        await asyncio.wrap_future(future)


async def _watch(receive: Receive, gone: Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


async def _whole(events: AsyncIterator[Told], send: Send) -> None:
    begun: Begun | None = None
    async for event in events:
        if isinstance(event, Begun):
            begun = event
        elif isinstance(event, Ended) and begun is not None:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": event.text},
                "logprobs": None,
                "finish_reason": event.finish_reason,
            }
            body = _head(begun, "chat.completion") | {"choices": [choice], "usage": _usage(event)}
            await send_json(send, 200, body)


async def _stream(events: AsyncIterator[Told], send: Send, *, include_usage: bool) -> None:
    """The chunks as they come; the one with the finish reason only after the commit."""
    stream = EventStream(send)
    begun: Begun | None = None
    try:
        async for event in events:
            if isinstance(event, Begun):
                begun = event
                await stream.event(_chunk(begun, {"role": "assistant", "content": ""}))
            elif isinstance(event, str) and begun is not None:
                await stream.event(_chunk(begun, {"content": event}))
            elif isinstance(event, Ended) and begun is not None:
                await stream.event(_chunk(begun, {}, event.finish_reason))
                if include_usage:
                    head = _head(begun, "chat.completion.chunk")
                    await stream.event(head | {"choices": [], "usage": _usage(event)})
                await stream.event("[DONE]", last=True)
    except AttuneError as error:
        if begun is None:
            raise
        await stream.event(error_json(error), last=True)


def _head(begun: Begun, kind: str) -> dict[str, Any]:
    return {
        "id": begun.id,
        "object": kind,
        "created": int(begun.created_at_s),
        "model": begun.model,
    }


def _chunk(begun: Begun, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _head(begun, "chat.completion.chunk") | {"choices": [choice]}


def _usage(ended: Ended) -> dict[str, int]:
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.completion_tokens,
        "total_tokens": ended.prompt_tokens + ended.completion_tokens,
    }


def note_json(note: Note) -> dict[str, Any]:
    """The feedback as HTTP shows it: the server's field names."""
    return {
        "id": note.id,
        "object": "feedback",
        "created_at": datetime.fromtimestamp(note.created_at_s, UTC).isoformat(),
        "completion_id": note.completion_id,
        "name": note.name,
        "value": note.value,
        "comment": note.comment,
        "correction": note.correction,
        "user": note.user,
    }
