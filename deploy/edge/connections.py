"""The deadlines of `core.guard` for the device's server, which uvicorn answers by h11.

h11 bounds heads, and what surrounds a body, by itself.
"""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from core.guard import Guard


class GuardedH11(Guard, H11Protocol):
    """uvicorn's HTTP protocol by h11."""

    def data_received(self, data: bytes) -> None:
        """All of it counts as body once the head is whole."""
        if self._reading == "body":
            self.body_comes(len(data))
        super().data_received(data)

    def handle_events(self) -> None:
        """Read what has come, and note what is still missing."""
        before = self._reading
        super().handle_events()
        state, rest = self.conn.their_state, self.conn.trailing_data[0]
        if state is h11.SEND_BODY:
            if before != "body":
                self.body_begins()
                self.body_comes(self._overhead)
        elif state is h11.IDLE and (rest or before == "head"):
            if rest and not self._begun:
                self.head_begins()
        else:
            self.request_ends()
