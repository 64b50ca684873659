"""One HTTP connection that is not held for nothing: it ends when its client sends or reads too
slowly, or more than a request can need.

uvicorn 0.54 has a timeout for idle connections and none for half a request, a body that never ends
or an answer nobody reads; its parser by httptools bounds no head. `Guard` is mixed before one of
its protocols; can go when uvicorn has these. Standard library only: the device's server uses it.
"""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any, Literal

from core.connections import Connections, counted_as

MAX_HEAD_BYTES = 65_536
MAX_HEADERS = 256
_OVERHEAD = 8  # bytes around each byte of a body: chunks of one byte have 5
_BODY_BYTES_PER_S = 1_000
_CODES = {
    400: "bad_request",
    408: "timeout",
    431: "headers_too_large",
    503: "too_many_connections",
}

_TOO_MANY = "There are too many connections; close some, or try again later."

Reading = Literal["nothing", "head", "body"]


class Guard(asyncio.Protocol):
    """One connection. Mixed before uvicorn's protocol, which has the attributes below.

    The class that mixes it says what is being read by `head_begins`, `body_begins`, `body_comes`
    and `request_ends`.
    """

    transport: Any
    loop: asyncio.AbstractEventLoop
    cycle: Any
    flow: Any
    client: Any

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._connections = connections
        self._limits = connections.limits
        self._reading: Reading = "head"
        self._begun = False  # something of the head is there
        self._since = self.loop.time()
        self._overhead = 0  # bytes of this request that are not its body
        self._body = self._body_then = 0
        self._stuck_since: float | None = None
        self.ended = False  # by us: whatever comes is not read any more

    def connection_made(self, transport: Any) -> None:
        """Count it in, or turn it away before anything is read."""
        super().connection_made(transport)
        self._since = self.loop.time()
        address = counted_as(self.client[0]) if self.client else ""  # a Unix socket
        if reason := self._connections.admit(self, address):
            self._connections.count(reason)
            self._refuse(503, _TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self._connections.release(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass it on, while there is no more of it than a request can need."""
        if self.ended:
            return
        if self._reading == "nothing":
            self._wait_for("head")
            self._begun = False
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MAX_HEAD_BYTES + _OVERHEAD * self._body:
            self.end_oversized()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        self._stuck_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It has taken most of what was kept for it."""
        self._stuck_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn says to what is no HTTP."""
        self.end(400, "malformed", "This is not a valid HTTP request.")

    def head_begins(self) -> None:
        """The first byte of a request is there."""
        self._wait_for("head")
        self._begun = True

    def body_begins(self) -> None:
        """Its head is whole."""
        self._wait_for("body")
        self._begun, self._body, self._body_then = True, 0, 0

    def body_comes(self, size_bytes: int) -> None:
        """Some of its body has come."""
        self._body += size_bytes
        self._overhead -= size_bytes

    def request_ends(self) -> None:
        """All of it is there."""
        self._reading, self._overhead, self._body = "nothing", 0, 0

    def _wait_for(self, what: Reading) -> None:
        self._reading, self._since = what, self.loop.time()

    def look(self, now: float) -> None:
        """End it if its client has taken too long."""
        if self._unread_for(now) > self._limits.reader_s:
            self._connections.count("reader")
            self.transport.abort()
        elif self._reading == "head":
            if self._answering():
                self._since = now  # a client may wait for its answer before it goes on
            elif now - self._since > self._limits.head_s:
                self._end_late("head", "The request's head did not come in time.")
        elif self._reading == "body" and not self.transport.is_closing():
            self._look_at_body(now)

    def _look_at_body(self, now: float) -> None:
        ours = self.flow.read_paused or self.cycle.waiting_for_100_continue
        passed_s = now - self._since
        if not ours and passed_s < self._limits.body_s:
            return
        if not ours and self._body - self._body_then < _BODY_BYTES_PER_S * passed_s:
            self._end_late("body", "The request's body did not come in time: send it faster.")
            return
        self._since, self._body_then = now, self._body

    def _unread_for(self, now: float) -> float:
        if self._stuck_since is None:
            if not self.transport.is_closing():
                return 0.0
            self._stuck_since = now  # closing waits for what is still to be read
        return now - self._stuck_since

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def patience(self) -> int | None:
        """Half a head loses least, then a connection kept for later, then half a body."""
        if self._reading == "body":
            return 2
        if self._answering():
            return None
        return 0 if self._reading == "head" else 1

    def give_way(self, reason: str) -> None:
        """Close it; who has sent something is told why."""
        self._connections.release(self)  # there is room at once
        if self._reading == "nothing" or not self._begun:
            self._close(reason)
        else:
            self.end(503, reason, _TOO_MANY)

    def _end_late(self, reason: str, message: str) -> None:
        answered = self._reading == "body" and self.cycle.response_complete
        if self._begun and not answered:
            self.end(408, reason, message)
        else:
            self._close(reason)

    def end_oversized(self) -> None:
        """There is more around the body than any request needs."""
        self.end(431, "oversized", f"The request's headers are over {MAX_HEAD_BYTES:,} bytes.")

    def end(self, status: int, reason: str, message: str) -> None:
        """Refuse what is being read, and close; without a word where an answer is under way."""
        if self.ended or self.transport.is_closing():
            return
        self._connections.count(reason)
        if self._answering():
            reading_its_body = self._reading == "body" and not self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if not reading_its_body:
                self.ended = True
                self.transport.abort()
                return
        self._refuse(status, message)

    def _refuse(self, status: int, message: str) -> None:
        self.ended = True
        self.transport.write(_response(status, message))
        self.transport.close()

    def _close(self, reason: str) -> None:
        self.ended = True
        self._connections.count(reason)
        self.transport.close()


def _response(status: int, message: str) -> bytes:
    kind = "service_unavailable_error" if status == 503 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": _CODES[status]}
    body = json.dumps({"error": error})
    head = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *(["retry-after: 1"] if status == 503 else []),
    ]
    return "\r\n".join([*head, "", body]).encode()
