"""Attune's own HTTP routes; each module is one resource. Loads no engine, no torch."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from core.errors import AttuneError, Invalid
from server.errors import http_error
from server.routes import adapters, edge, exports, feedback, models, runs


def attach(app: FastAPI) -> None:
    """Put every route on the app, with our error envelope."""
    for module in (models, feedback, adapters, runs, exports, edge):
        app.include_router(module.router)
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
