"""An error as a whole ASGI answer, in the form OpenAI clients read."""

from __future__ import annotations

import json

from core.errors import AttuneError
from core.http_errors import ErrorEnvelope, error_body, headers_of, status_of
from feedback.receivers import receiver_at


def http_error(error: AttuneError, path: str = "") -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, JSON body and headers; the body as whoever listens at `path` forms it.

    Elsewhere it is `{"error": {message, type, param, code}}`.
    """
    receiver = receiver_at(path)
    said = receiver.refusal(error) if receiver else ErrorEnvelope(error=error_body(error))
    body = json.dumps(said.model_dump()).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **headers_of(error),
    }
    return status_of(error), body, [(k.encode(), v.encode()) for k, v in headers.items()]
