"""Errors over HTTP: one table from our kinds to status, type and headers, one envelope.

The server and the devices' server both answer by it. Knows no web framework.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from core.errors import (
    AttuneError,
    BeyondEnd,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ShuttingDown,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    WrongMethod,
)

_HTTP: Mapping[type[AttuneError], tuple[int, str, Mapping[str, str]]] = {
    Invalid: (400, "invalid_request_error", {}),
    Unauthenticated: (401, "authentication_error", {"www-authenticate": "Bearer"}),
    Forbidden: (403, "permission_error", {}),
    NotFound: (404, "not_found_error", {}),
    WrongMethod: (405, "invalid_request_error", {}),
    # The openai client would retry a 409; ours is final.
    Conflict: (409, "conflict_error", {"x-should-retry": "false"}),
    TooLarge: (413, "invalid_request_error", {}),
    BeyondEnd: (416, "invalid_request_error", {}),
    TooMany: (429, "rate_limit_error", {"retry-after": "1"}),
    ShuttingDown: (
        503,
        "service_unavailable_error",
        {"retry-after": "1", "connection": "close"},
    ),
    Unavailable: (503, "service_unavailable_error", {"retry-after": "1"}),
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
    """The HTTP status."""
    return _known(error)[0]


def headers_of(error: AttuneError) -> Mapping[str, str]:
    """Headers that go with it, names in lower case."""
    headers = dict(_known(error)[2])
    if isinstance(error, WrongMethod):
        headers["allow"] = ", ".join(error.allowed)
    if isinstance(error, BeyondEnd):
        headers["content-range"] = f"bytes */{error.size_bytes}"
    return headers


def error_body(error: AttuneError) -> ErrorBody:
    """The error as it stands in an envelope, or beside one refused item of many."""
    return ErrorBody(
        message=error.message, type=_known(error)[1], param=error.param, code=error.code
    )


def _known(error: AttuneError) -> tuple[int, str, Mapping[str, str]]:
    kinds = (known for kind, known in _HTTP.items() if isinstance(error, kind))
    return next(kinds, (500, "server_error", {}))
