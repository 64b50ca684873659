"""The door: one ASGI middleware around vLLM's app that decides who may ask what, sends each
request to the right weights, and makes every answer durable before its last byte leaves.

Knows its stages and how a refusal is told; what each stage does is that stage's own. The per-chunk
path copies nothing and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import AttuneError, Unavailable
from server import metrics
from server.door.admission import AllowList, check_key, take_body
from server.door.anthropic import speak_anthropic
from server.door.call import Call, Onward, Stage
from server.door.conversation import continue_conversation, name_previous
from server.door.credentials import read_headers
from server.door.let_in import let_in
from server.door.limits import compilable, within_bounds
from server.door.routing import choose_route, hold_lease
from server.door.tap import record
from server.errors import error_response, unforeseen
from server.own_route import OwnRoute
from server.runtime import Runtime


class Gateway:
    """ASGI middleware; `runtime()` yields the running parts, or None while starting up. `own`: our
    routes in `app`."""

    def __init__(
        self,
        app: ASGIApp,
        runtime: Callable[[], Runtime | None],
        own: Sequence[OwnRoute],
    ) -> None:
        self._app = app
        self._runtime = runtime
        self._enter = _in_turn(
            AllowList(own),  # what is not listed does not exist
            let_in,  # unless the server is ending
            check_key,  # whose request it is
            take_body,  # no longer than it may be; our own routes answer from here
            continue_conversation,  # what was said before, where it goes on from a response
            within_bounds,  # no parameter costs the others more than it may
            compilable,  # nothing the engine would compile for long
            choose_route,  # which weights answer
            hold_lease,  # they are in the engine until the answer has ended
            speak_anthropic,  # errors of /v1/messages read as its clients expect
            record,  # durable before its last byte leaves
            name_previous,  # the response says what it went on from
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "not available"})
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            runtime = self._runtime()
            if runtime is None:
                raise Unavailable("The server is still starting; try again in a moment.")
            headers = read_headers(scope["headers"])
            await self._enter(Call(runtime, self._app, scope, receive, noting, headers))
        except ClientDisconnect:
            pass
        except Exception as error:
            if started:
                raise  # the server breaks the connection off, so that the client notices
            known = error if isinstance(error, AttuneError) else unforeseen(error)
            metrics.REFUSED.labels(known.code).inc()
            await error_response(known, scope["path"])(scope, receive, send)


def _in_turn(*stages: Stage) -> Onward:
    onward: Onward = Call.answer
    for stage in reversed(stages):
        onward = partial(stage, onward=onward)
    return onward
