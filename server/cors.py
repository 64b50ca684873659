"""CORS: which pages' scripts may call this server and read what it answers, refusals included.

Owns the rule and the headers; cookies and the like are never allowed, a key is sent by the script.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import Forbidden, Invalid
from server.errors import error_response

ALL = "*"

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s,*]+")
_EXPOSED = (
    "x-request-id", "request-id", "x-attune-version", "retry-after", "x-should-retry",
    "www-authenticate", "etag", "content-range", "accept-ranges", ALL,
)  # fmt: skip
"""What scripts may read of an answer's headers. `*` is all of them, to browsers that know it."""


def parse_origins(text: str) -> tuple[str, ...]:
    """The origins that a setting names, comma-separated. Raises Invalid for what is none."""
    named = [part.strip().rstrip("/").lower() for part in text.split(",") if part.strip()]
    for origin in named:
        if origin != ALL and not _ORIGIN.fullmatch(origin):
            raise Invalid(
                f"ATTUNE_CORS_ORIGINS: {origin[:100]!r} is no origin. Name each as "
                "https://host or https://host:port, separated by commas, or * for all.",
                param="cors_origins",
            )
    return tuple(named)


class Cors(CORSMiddleware):
    """Around everything else: a preflight needs no key, and a refusal can be read by a page."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=(ALL,),
            allow_headers=(ALL,),
            allow_private_network=True,  # that is where such a server stands; a key is needed
            expose_headers=_EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or let the app answer and add the headers."""
        if scope["type"] == "http" and scope["path"] == "/metrics":
            # They are open to this machine, on which a browser may show any page.
            await self.app(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Starlette's, but a refusal in our envelope."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        asked, origin = request_headers["access-control-request-method"], request_headers["origin"]
        return error_response(
            Forbidden(
                f"{asked[:20]} is not taken from pages of {origin[:200]}. ATTUNE_CORS_ORIGINS "
                "names the origins that may call this server.",
                code="origin_not_allowed",
            )
        )
