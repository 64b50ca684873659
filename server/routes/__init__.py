"""Attune's own HTTP routes; each module is one resource. Loads no engine, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from core.errors import AttuneError, Invalid
from core.work.kind import Kind
from feedback.receivers import RECEIVERS, receiver_at
from server.errors import error_response, no_endpoint
from server.own_route import OwnRoute
from server.routes import (
    adapters,
    feedback,
    health,
    interactions,
    learning,
    models,
    openapi,
    responses,
    uploads,
)
from server.routes.work import routes_of

ROUTERS: list[APIRouter] = [
    models.router,
    responses.router,
    feedback.router,
    interactions.router,
    adapters.router,
    learning.router,
    uploads.router,
    health.router,
]

TAKE_FILES = frozenset({"/v1/adapters/{name}/versions"})


def attach(app: FastAPI, kinds: Sequence[type[Kind[Any, Any]]]) -> list[OwnRoute]:
    """Put every route on the app, those of each kind of work too, with our error envelope; what of
    the app has one of these paths goes. Returns our paths: the door lets through no others."""
    ours = APIRouter()
    for router in [*ROUTERS, *map(routes_of, kinds), *map(feedback.mounted, RECEIVERS)]:
        ours.include_router(router)
    openapi.describe_in(ours)
    app.add_exception_handler(AttuneError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    routes = [route for route in ours.routes if isinstance(route, Route)]
    taken = {route.path for route in routes}
    theirs = [r for r in app.router.routes if getattr(r, "path", "") not in taken]
    app.router.routes[:] = [*theirs, *routes]  # answers are asked for most, and looked up first
    return [_as_the_door_knows_it(route) for route in routes]


def _as_the_door_knows_it(route: Route) -> OwnRoute:
    methods = frozenset(route.methods or ())
    known = OwnRoute(route.path, route.path_regex, methods, takes_files=route.path in TAKE_FILES)
    receiver = receiver_at(route.path)
    if receiver is None:
        return known
    basic = receiver.auth == "basic"
    return replace(known, max_bytes=receiver.max_bytes or 0, takes_basic=basic)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself."""
    assert isinstance(error, HTTPException)
    refusal: AttuneError = Invalid(str(error.detail))
    if error.status_code in (404, 405):  # the door knows it, but this vLLM does not
        refusal = no_endpoint(request.method, request.url.path)
    return error_response(refusal, request.url.path)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AttuneError)
    return error_response(error, request.url.path)
