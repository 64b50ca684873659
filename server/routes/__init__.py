"""Attune's own HTTP routes; each module is one resource. Loads no engine, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.routing import Route

from core.errors import AttuneError, Invalid
from core.settings import Settings
from feedback.receivers.device import MAX_BYTES as MAX_SYNC_BYTES
from server.errors import http_error
from server.own_route import OwnRoute, usual_limit
from server.routes import adapters, edge, exports, feedback, models, runs

BODY_LIMITS: Mapping[str, Callable[[Settings], int]] = {
    "/v1/adapters/{name}/versions": lambda settings: settings.max_upload_bytes,
    "/v1/edge/sync": lambda settings: max(settings.max_body_bytes, MAX_SYNC_BYTES),
}
"""The most bytes of a route's body, where it is not the usual limit."""


def attach(app: FastAPI) -> list[OwnRoute]:
    """Put every route on the app, with our error envelope; what of the app has one of these paths
    goes. Returns our paths: the door lets through no others."""
    theirs = list(app.router.routes)
    for module in (models, feedback, adapters, runs, exports, edge):
        app.include_router(module.router)
    app.add_exception_handler(AttuneError, _on_error)
    added = app.router.routes[len(theirs) :]
    ours = [route for route in added if isinstance(route, Route)]
    taken = {route.path for route in ours}
    kept = [route for route in theirs if getattr(route, "path", None) not in taken]
    app.router.routes[:] = [*kept, *added]
    return [
        OwnRoute(route.path, route.path_regex, BODY_LIMITS.get(route.path, usual_limit))
        for route in ours
    ]


async def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AttuneError)
    return response_of(error)


def response_of(error: AttuneError) -> Response:
    """An error as a response."""
    status, body, headers = http_error(error)
    return Response(
        body, status, headers={k.decode(): v.decode() for k, v in headers if k != b"content-length"}
    )


__all__ = ["Invalid", "RequestValidationError", "attach", "response_of"]
