"""What every route is made of: the caller's key, the running parts, a read body, list envelopes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBasic, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from core.bodies import Resource, check_text, invalid
from core.errors import AttuneError, Unavailable
from core.http_errors import ErrorEnvelope
from core.identity.keys import has, require
from core.identity.types import ApiKey, Scope
from core.text import decoded
from feedback.receivers import receiver_at
from server.errors import unforeseen
from server.runtime import Runtime
from server.turns import Turns

logger = logging.getLogger("attune.server")

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "model": ErrorEnvelope,
        "description": "400: malformed, `param` names where. 401: no key this server knows. 403: "
        "the key lacks the scope. 404: the key's tenant has no such thing. 405: not this method. "
        "409: the state has moved on, or the name is taken. 413: the body is over the limit. "
        "429: too many calls of the tenant at once.",
    },
    503: {"model": ErrorEnvelope, "description": "Not now; try again."},
}
"""`responses=` of a router: the refusals any of its routes may answer with."""

BEARER = HTTPBearer(auto_error=False, description="An Attune key, `sk-at-…`.")
BASIC = HTTPBasic(auto_error=False, description="Any user name; an Attune key as the password.")


async def runtime_of(request: Request) -> Runtime:
    """The running server's parts."""
    runtime: Runtime = request.app.state.attune
    return runtime


RuntimeOf = Annotated[Runtime, Depends(runtime_of)]


def key_with(
    *scopes: Scope, scheme: HTTPBearer | HTTPBasic = BEARER
) -> Callable[..., Awaitable[ApiKey]]:
    """A dependency: the caller's key, verified by the door. Forbidden without any of `scopes`.

    `scheme` tells the API's description how the key is sent, beside which scopes open.
    """

    shown = Security(scheme, scopes=list(scopes))

    async def key_of(request: Request, _shown: Any = shown) -> ApiKey:
        key: ApiKey = request.state.attune_key
        if not any(has(key, scope) for scope in scopes):
            require(key, scopes[-1])
        return key

    return key_of


Shown = TypeVar("Shown", bound=Resource)


class PageOf(BaseModel, Generic[Shown]):
    """OpenAI's list envelope; the next page is asked for with `after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[Shown]
    has_more: bool
    first_id: str | None
    last_id: str | None


def page_of(data: Sequence[Shown], *, has_more: bool = False) -> PageOf[Shown]:
    """The envelope around one page."""
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return PageOf(data=list(data), has_more=has_more, first_id=ends[0], last_id=ends[1])


class Route(APIRoute):
    """Reads every body as JSON, whatever its Content-Type, takes turns, and refuses in our words.

    An empty body is an empty object: `curl -X POST` sends none, `curl -d` calls JSON a form.
    """

    def turns(self, runtime: Runtime) -> Turns:
        """In whose line a call waits until its tenant has a place."""
        return runtime.calls

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with the body read before it and its refusals translated after it."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            if self.body_field is not None:
                raw = await request.body()
                sent = decoded(raw) if raw.strip() else {}
                if receiver_at(self.path) is None:  # those refuse item by item
                    check_text(sent)
                request = _JsonRequest(request, sent)
            try:
                async with self._turn(request):
                    return await handle(request)
            except RequestValidationError as error:
                raise invalid(error.errors()) from error
            except (AttuneError, HTTPException, ClientDisconnect) as error:
                if isinstance(error.__cause__, OSError):  # names the file, which no client is told
                    logger.error("Trouble with the server's storage: %s", error.__cause__)
                raise
            except Exception as error:  # or vLLM's handlers would tell the client what it says
                raise unforeseen(error) from error

        return handler

    def _turn(self, request: Request) -> AbstractAsyncContextManager[None]:
        key: ApiKey | None = getattr(request.state, "attune_key", None)
        if key is None:  # the description of the API, for everybody
            return nullcontext()
        return self.turns(request.app.state.attune).of(key.tenant_id)


def new_router(tag: str, route: type[Route] = Route) -> APIRouter:
    """A router whose routes read bodies and refuse as all of ours do; `tag` heads them in /docs."""
    return APIRouter(route_class=route, responses=ERRORS, tags=[tag])


async def take_over(runtime: Runtime) -> None:
    """Have this server follow at once; the change itself is committed whatever happens here."""
    with suppress(Unavailable):
        await runtime.sync.refresh()


class _JsonRequest(Request):
    """A request whose body is read and decoded already."""

    def __init__(self, request: Request, sent: Any) -> None:
        headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._sent = sent

    async def body(self) -> bytes:
        return b"read already"

    async def json(self) -> Any:
        return self._sent
