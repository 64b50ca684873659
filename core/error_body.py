"""Errors as OpenAI clients read them: one table from our kinds to HTTP, one envelope."""

from __future__ import annotations

from pydantic import BaseModel

from core.errors import (
    AttuneError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_HTTP: dict[type[AttuneError], tuple[int, str]] = {
    Invalid: (400, "invalid_request_error"),
    Unauthenticated: (401, "authentication_error"),
    Forbidden: (403, "permission_error"),
    NotFound: (404, "not_found_error"),
    Conflict: (409, "conflict_error"),
    TooLarge: (413, "invalid_request_error"),
    Unavailable: (503, "service_unavailable_error"),
}


class ErrorBody(BaseModel):
    """What went wrong and what to do about it."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorEnvelope(BaseModel):
    """The body of every refusal."""

    error: ErrorBody


def status_of(error: AttuneError) -> int:
    """The HTTP status of an error's kind; 500 for one of no kind."""
    return _kind_of(error)[0]


def error_body(error: AttuneError) -> ErrorBody:
    """The error as it stands in an envelope, or beside one refused item of many."""
    return ErrorBody(
        message=error.message, type=_kind_of(error)[1], param=error.param, code=error.code
    )


def _kind_of(error: AttuneError) -> tuple[int, str]:
    return next(
        (known for cls, known in _HTTP.items() if isinstance(error, cls)), (500, "server_error")
    )
