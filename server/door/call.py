"""One HTTP request on its way in: what a stage of the door finds out for the stages after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.types import Route
from core.identity.types import ApiKey
from core.ids import CompletionId
from server.door.requests import Asked
from server.own_route import OwnRoute
from server.runtime import Runtime
from server.under_way import Stay

COUNTING = "tokens"
"""The endpoint of requests that count tokens: they read weights but answer nothing to record."""


@dataclass(slots=True)
class Call:
    """The gateway makes it. Each group of fields below is set by the stage it names, for the stages
    after it; `scope`, `receive` and `send` are what the app behind the door is given."""

    runtime: Runtime
    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    headers: Mapping[bytes, bytes]

    # AllowList: "chat.completions", …, COUNTING; or none, and the route of our own
    endpoint: str = ""
    own: OwnRoute | None = None

    # let_in
    stay: Stay = field(init=False)

    # check_key
    key: ApiKey = field(init=False)

    # take_body: what is asked, and when the whole of it was here
    asked: Asked = field(init=False)
    asked_at_s: float = field(init=False)
    began: float = field(init=False)  # the same, by the performance counter

    # choose_route: what answers, its name in the engine, and the id of the answer
    route: Route = field(init=False)
    engine_model: str = field(init=False)
    completion_id: CompletionId = field(init=False)

    async def answer(self) -> None:
        """Let the app behind the door answer: vLLM, or a route of our own."""
        await self.app(self.scope, self.receive, self.send)


Onward = Callable[[Call], Awaitable[None]]


class Stage(Protocol):
    """One thing the door does with every call."""

    async def __call__(self, call: Call, onward: Onward) -> None:
        """Pass the call onward, or answer it, or raise an AttuneError to refuse it."""
