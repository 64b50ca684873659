"""Refusals as HTTP: status, body and headers of an error."""

from __future__ import annotations

import json

from core.error_body import ErrorEnvelope, error_body, status_of
from core.errors import AttuneError
from feedback.receivers import receiver_at


def http_error(error: AttuneError, path: str = "") -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, JSON body and headers; the body as whoever listens at `path` forms it.

    Elsewhere it is `{"error": {message, type, param, code}}`.
    """
    status, receiver = status_of(error), receiver_at(path)
    said = receiver.refusal(error) if receiver else ErrorEnvelope(error=error_body(error))
    body = json.dumps(said.model_dump()).encode()
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
