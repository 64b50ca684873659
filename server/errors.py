"""Errors as OpenAI clients read them: one table from our kinds to HTTP, one envelope."""

from __future__ import annotations

import json
from typing import Any

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


def http_error(error: AttuneError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, JSON body `{"error": {message, type, param, code}}` and headers."""
    status, _ = _kind_of(error)
    body = json.dumps({"error": error_json(error)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 409:
        # The openai client would retry a 409; ours is final.
        headers.append((b"x-should-retry", b"false"))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return status, body, headers


def error_json(error: AttuneError) -> dict[str, Any]:
    """The object `{message, type, param, code}` alone."""
    return {
        "message": error.message,
        "type": _kind_of(error)[1],
        "param": error.param,
        "code": error.code,
    }


def error_event(endpoint: str, error: AttuneError) -> bytes:
    """The last bytes of a stream that ends with an error, as clients of its endpoint read it."""
    told = error_json(error)
    if endpoint == "messages":
        told = {"type": "error", "error": {"type": "api_error", "message": error.message}}
    elif endpoint == "responses":
        told = {**told, "type": "error", "error": told}
    else:
        return b"data: " + json.dumps({"error": told}).encode() + b"\n\ndata: [DONE]\n\n"
    return b"event: error\ndata: " + json.dumps(told).encode() + b"\n\n"


def _kind_of(error: AttuneError) -> tuple[int, str]:
    return next(
        (known for cls, known in _HTTP.items() if isinstance(error, cls)), (500, "server_error")
    )
