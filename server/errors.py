"""An error as a whole answer, in the form the clients of its path read."""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.responses import Response

from core.errors import AttuneError, NotFound, Unavailable
from core.http_errors import ErrorEnvelope, error_body, headers_of, status_of
from core.ids import new_id
from feedback.receivers import receiver_at
from server import anthropic

logger = logging.getLogger("attune.server")


def error_response(error: AttuneError, path: str = "") -> Response:
    """Its status, headers and JSON; the body as whoever listens at `path` forms it.

    That is Anthropic's form for /v1/messages, whose clients also look for the request's id in a
    header; elsewhere `{"error": {message, type, param, code}}`.
    """
    # In ASCII, which also takes the half of a UTF-16 pair that a caller may have sent.
    body = json.dumps(_told(error, path))
    headers = dict(headers_of(error))
    if anthropic.speaks(path):
        headers["request-id"] = new_id("req")
    return Response(body, status_of(error), headers, media_type="application/json")


def _told(error: AttuneError, path: str) -> dict[str, Any]:
    if anthropic.speaks(path):
        named = anthropic.naming(error.param, error.message)
        return anthropic.envelope(status_of(error), named)
    receiver = receiver_at(path)
    said = receiver.refusal(error) if receiver else ErrorEnvelope(error=error_body(error))
    return said.model_dump()


def no_endpoint(method: str, path: str) -> NotFound:
    """What is said of a path that does not exist, or that is nobody's business here."""
    return NotFound(f"No such endpoint: {method[:20]} {path[:200]}. See /docs.")


def unforeseen(error: Exception) -> AttuneError:
    """What a client is told of an exception that nobody translated: nothing of what it says.

    That goes to the log, under an id the client gets too. An OSError is a disk in trouble, or a
    store beyond the network: Unavailable.
    """
    if isinstance(error, OSError):
        logger.error("The server's storage is in trouble: %s", error.strerror, exc_info=error)
        return Unavailable(
            "The server's storage cannot be used now; its log says why. Try again in a moment.",
            code="store_unavailable",
        )
    number = new_id("err")
    logger.error("An error nobody foresaw, told to the client as %s.", number, exc_info=error)
    return AttuneError(
        f"An error of the server's own, {number}: tell who runs this server, whose log says more."
    )


def error_event(endpoint: str, error: AttuneError) -> bytes:
    """The last bytes of a stream that ends with an error, as clients of its endpoint read it."""
    told = error_body(error).model_dump()
    if endpoint == "messages":
        told = anthropic.envelope(500, error.message)
    elif endpoint == "responses":
        told = {**told, "type": "error", "error": told}
    else:
        return b"data: " + json.dumps({"error": told}).encode() + b"\n\ndata: [DONE]\n\n"
    return b"event: error\ndata: " + json.dumps(told).encode() + b"\n\n"
