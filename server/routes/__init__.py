"""Attune's own HTTP routes; each module is one resource. Loads no engine, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from core.errors import AttuneError, Invalid
from core.work.kind import Kind
from server.errors import http_error
from server.routes import adapters, edge, feedback, models
from server.routes.work import routes_of


def attach(app: FastAPI, kinds: Sequence[type[Kind[Any, Any]]]) -> None:
    """Put every route on the app, those of each kind of work too, with our error envelope."""
    for module in (models, feedback, adapters, edge):
        app.include_router(module.router)
    for kind in kinds:
        app.include_router(routes_of(kind), tags=[kind.spec.plural])
    app.add_exception_handler(AttuneError, _on_error)


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
