"""Attune's own HTTP routes; each module is one resource. Loads no engine, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.routing import Route

from core.errors import AttuneError
from core.settings import Settings
from core.work.kind import Kind
from feedback.receivers import RECEIVERS, receiver_at
from server.errors import error_response
from server.own_route import OwnRoute, usual_limit
from server.routes import adapters, feedback, models, openapi, uploads
from server.routes.work import routes_of

ROUTERS: list[APIRouter] = [
    models.router,
    feedback.router,
    adapters.router,
    uploads.router,
]

BODY_LIMITS: Mapping[str, Callable[[Settings], int]] = {
    "/v1/adapters/{name}/versions": lambda settings: settings.max_upload_bytes,
}
"""The most bytes of a route's body, where it is not the usual limit; receivers say their own."""


def attach(app: FastAPI, kinds: Sequence[type[Kind[Any, Any]]] = ()) -> list[OwnRoute]:
    """Put every route on the app, those of each kind of work too, with our error envelope; what of
    the app has one of these paths goes. Returns our paths: the door lets through no others."""
    theirs = list(app.router.routes)
    routers = [*ROUTERS, *map(routes_of, kinds), *map(feedback.mounted, RECEIVERS)]
    for router in routers:
        app.include_router(router)
    openapi.attach(app, routers)
    app.add_exception_handler(AttuneError, _on_error)
    ours = [r for r in app.router.routes if isinstance(r, Route) and r not in theirs]
    taken = {route.path for route in ours}
    app.router.routes[:] = [
        r for r in app.router.routes if r not in theirs or getattr(r, "path", "") not in taken
    ]
    return [_as_the_door_knows_it(route) for route in ours]


def _as_the_door_knows_it(route: Route) -> OwnRoute:
    limit = BODY_LIMITS.get(route.path, usual_limit)
    receiver = receiver_at(route.path)
    if receiver is None:
        return OwnRoute(route.path, route.path_regex, limit)
    if receiver.max_bytes is not None:
        limit = partial(_at_least, receiver.max_bytes)
    return OwnRoute(route.path, route.path_regex, limit, takes_basic=receiver.auth == "basic")


def _at_least(size_bytes: int, settings: Settings) -> int:
    return max(size_bytes, usual_limit(settings))


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AttuneError)
    return error_response(error, request.url.path)
