"""The device's HTTP server: chat completions, models, feedback, health. A Starlette app.

Owns routes and who may call them. Answers come from `answering`, records go to `store`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from core.errors import AttuneError, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from core.http_errors import error_body, headers_of, status_of
from deploy.edge.answering import Answering, Begun, Told
from deploy.edge.asks import ChatAsk, parse_chat, parse_json, parse_note
from deploy.edge.installed import Installation
from deploy.edge.store import Store
from deploy.edge.types import Answered, Note

MAX_BODY_BYTES = 4 << 20
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def edge_app(
    installation: Installation, answering: Answering, store: Store, key: str | None = None
) -> Starlette:
    """The app. Without a `key` it answers only requests that name this machine as their host."""
    handlers = _Handlers(installation, answering, store, key)
    return Starlette(
        routes=[
            Route("/health", handlers.health),
            Route("/v1/models", handlers.models),
            Route("/v1/chat/completions", handlers.chat, methods=["POST"]),
            Route("/v1/feedback", handlers.feedback, methods=["POST"]),
        ],
        exception_handlers={AttuneError: _error_answer, HTTPException: _no_such_route},
    )


@dataclass(frozen=True, slots=True)
class _Handlers:
    installation: Installation
    answering: Answering
    store: Store
    key: str | None

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        self._admit(request.headers)
        created = 0
        with suppress(ValueError):
            made = datetime.fromisoformat(self.installation.manifest.created_at)
            created = int(made.timestamp())
        names = self.installation.names()
        return JSONResponse(
            {
                "object": "list",
                "data": [
                    {"id": name, "object": "model", "created": created, "owned_by": "attune"}
                    for name in names
                ],
            }
        )

    async def feedback(self, request: Request) -> Response:
        note = parse_note(await self._body(request), now_s=time.time())
        created = await asyncio.to_thread(self._keep, note)
        return JSONResponse(note_json(note), 201 if created else 200)

    async def chat(self, request: Request) -> Response:
        ask = parse_chat(await self._body(request), request.headers)
        events = self._events(ask, request)
        begun = await anext(events)
        if not isinstance(begun, Begun):  # the client has gone
            return Response(status_code=499)
        if ask.stream:
            lines = _stream(begun, events, include_usage=ask.include_usage)
            headers = {"cache-control": "no-cache"}
            return StreamingResponse(lines, headers=headers, media_type="text/event-stream")
        ended = [event async for event in events if isinstance(event, Answered)]
        return JSONResponse(_whole(begun, ended[0])) if ended else Response(status_code=499)

    def _admit(self, headers: Mapping[str, str]) -> None:
        if self.key is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() == "bearer" and hmac.compare_digest(given.encode(), self.key.encode()):
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

    async def _body(self, request: Request) -> dict[str, Any]:
        """The JSON object sent, once its sender is admitted. Raises TooLarge above 4 MiB."""
        self._admit(request.headers)
        # Browsers send other sites' requests without asking only if they are not JSON.
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Invalid("Send Content-Type: application/json.", param="content-type")
        raw = bytearray()
        try:
            async for part in request.stream():
                raw += part
                if len(raw) > MAX_BODY_BYTES:
                    raise TooLarge(f"The body is larger than {MAX_BODY_BYTES >> 20} MiB.")
        except ClientDisconnect as error:
            raise Invalid("The request ended before its body did.") from error
        return parse_json(bytes(raw))

    def _keep(self, note: Note) -> bool:
        if not self.store.has_answer(note.completion_id):
            raise NotFound(
                f"No answer '{note.completion_id[:100]}' was given here. Send the id the answer "
                "came with (its 'id' field).",
                param="completion_id",
                code="completion_not_found",
            )
        return self.store.put_note(note)

    async def _events(
        self, ask: ChatAsk, request: Request
    ) -> AsyncIterator[Told | Answered | None]:
        """What the answering thread tells, as it comes, then the answer; raises what it raised.

        When the client goes away, the answer is stopped and the last word is None.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Told | None] = asyncio.Queue()
        gone = Event()

        def tell(event: Told | None) -> None:
            loop.call_soon_threadsafe(told.put_nowait, event)

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            gone.set()

        watching = asyncio.create_task(watch())
        try:
            future = self.answering.submit(ask, tell, gone)
            future.add_done_callback(lambda _: tell(None))
            while (event := await told.get()) is not None:
                yield event
            answered = await asyncio.wrap_future(future)
            yield None if gone.is_set() else answered
        finally:
            gone.set()
            watching.cancel()


def _whole(begun: Begun, ended: Answered) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ended.answer},
        "logprobs": None,
        "finish_reason": ended.finish_reason,
    }
    return _head(begun, "chat.completion") | {"choices": [choice], "usage": _usage(ended)}


async def _stream(
    begun: Begun, events: AsyncIterator[Told | Answered | None], *, include_usage: bool
) -> AsyncIterator[str]:
    """The chunks as they come; the one with the finish reason only after the commit."""
    yield _event(_chunk(begun, {"role": "assistant", "content": ""}))
    try:
        async for event in events:
            if isinstance(event, str):
                yield _event(_chunk(begun, {"content": event}))
            elif isinstance(event, Answered):
                yield _event(_chunk(begun, {}, event.finish_reason))
                if include_usage:
                    head = _head(begun, "chat.completion.chunk")
                    yield _event(head | {"choices": [], "usage": _usage(event)})
                yield "data: [DONE]\n\n"
    except AttuneError as error:
        yield _event({"error": error_body(error).model_dump()})


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


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


def _usage(ended: Answered) -> dict[str, int]:
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.completion_tokens,
        "total_tokens": ended.prompt_tokens + ended.completion_tokens,
    }


def note_json(note: Note) -> dict[str, Any]:
    """The feedback as HTTP shows it: the server's field names."""
    body = asdict(note)
    at = datetime.fromtimestamp(body.pop("created_at_s"), UTC)
    return {"object": "feedback", "created_at": at.isoformat(), **body}


async def _error_answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, AttuneError)
    return JSONResponse(
        {"error": error_body(error).model_dump()}, status_of(error), headers_of(error)
    )


async def _no_such_route(request: Request, error: Exception) -> Response:
    known = NotFound(
        f"No {request.method} {request.url.path[:100]} here. There are POST /v1/chat/completions, "
        "GET /v1/models, POST /v1/feedback, GET /health."
    )
    return await _error_answer(request, known)
