"""Errors of /v1/messages and what is below it, in the envelope Anthropic's clients read. Pure."""

from __future__ import annotations

from typing import Any

PATH = "/v1/messages"

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""What the status is called; other 4xx are `invalid_request_error`, other 5xx `api_error`.
Source: Anthropic's API reference, "Errors"."""


def speaks(path: str) -> bool:
    """Whether clients of this path read Anthropic's form."""
    return path == PATH or path.startswith(PATH + "/")


def naming(param: str | None, message: str) -> str:
    """A message that says which field it is about: Anthropic's form has no place of its own for
    that."""
    return message if param is None or param in message else f"{param}: {message}"


def envelope(status: int, message: str, request_id: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    usual = "api_error" if status >= 500 else "invalid_request_error"
    told = {"type": "error", "error": {"type": _TYPES.get(status, usual), "message": message}}
    return told if request_id is None else {**told, "request_id": request_id}
