"""Attune's own HTTP routes; each module is one resource. Loads no engine, no torch."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response

from core.errors import AttuneError
from feedback.receivers import RECEIVERS
from server.errors import http_error
from server.routes import adapters, exports, feedback, models, openapi, receivers, runs, uploads

ROUTERS: list[APIRouter] = [
    models.router,
    feedback.router,
    adapters.router,
    uploads.router,
    runs.router,
    exports.router,
]


def attach(app: FastAPI) -> None:
    """Put every route on the app, with our error envelope."""
    routers = [*ROUTERS, *map(receivers.mounted, RECEIVERS)]
    for router in routers:
        app.include_router(router)
    openapi.attach(app, routers)
    app.add_exception_handler(AttuneError, _on_error)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AttuneError)
    status, body, headers = http_error(error, request.url.path)
    return Response(
        body, status, headers={k.decode(): v.decode() for k, v in headers if k != b"content-length"}
    )
