"""Deadlines and caps on the connections of vLLM 0.32's server, which has uvicorn 0.54 answer them.

vLLM takes no protocol class, so it is put into uvicorn's configuration after that was loaded and
before the port is listened on. What the protocol does is `core.guard`'s.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.connections import Connections, Limits, room_for_connections
from core.guard import MAX_HEAD_BYTES, MAX_HEADERS, Guard
from core.settings import Settings
from server import metrics

logger = logging.getLogger("attune.server")


def install(config: Any, settings: Settings) -> None:
    """`config`: the `uvicorn.Config` of a server that does not listen yet."""
    limits = Limits(
        head_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
        reader_s=settings.reader_timeout_s,
        per_address=settings.max_connections_per_address,
        total=room_for_connections(),
    )
    connections = Connections(limits, lambda reason: metrics.CUT_OFF.labels(reason).inc())
    config.http_protocol_class = partial(GuardedHttp, connections)
    config.ws_protocol_class = None  # nothing here speaks WebSocket


class GuardedHttp(Guard, HttpToolsProtocol):
    """uvicorn's HTTP protocol by httptools, which bounds neither a head nor how long it takes."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.head_begins()

    def on_headers_complete(self) -> None:
        """Its head is whole: what is too large goes no further."""
        if self.ended:
            return
        size_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self.end_oversized()
            return
        super().on_headers_complete()
        self.body_begins()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the head, or behind a body in chunks, where nobody reads them."""
        if self._reading == "head":
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Some of its body is here."""
        if not self.ended:
            self.body_comes(len(body))
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is here."""
        if not self.ended:
            super().on_message_complete()
            self.request_ends()

    def _unsupported_upgrade_warning(self) -> None:
        """Any client can ask for it: that is not worth a line in the log."""
