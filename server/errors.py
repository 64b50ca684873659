"""Refusals as HTTP: status, body and headers of an error."""

from __future__ import annotations

import json

from core.error_body import ErrorEnvelope, error_body, status_of
from core.errors import AttuneError


def http_error(error: AttuneError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, JSON body `{"error": {message, type, param, code}}` and headers."""
    status = status_of(error)
    body = json.dumps(ErrorEnvelope(error=error_body(error)).model_dump()).encode()
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
