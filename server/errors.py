"""An error as a whole ASGI answer, in the form OpenAI clients read."""

from __future__ import annotations

import json

from core.errors import AttuneError
from core.http_errors import error_json, headers_of, status_of


def http_error(error: AttuneError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, JSON body `{"error": {message, type, param, code}}` and headers."""
    body = json.dumps({"error": error_json(error)}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **headers_of(error),
    }
    return status_of(error), body, [(k.encode(), v.encode()) for k, v in headers.items()]
