"""Which HTTP connections there may be: how many, in all and of each address, and how slow.

Counts the open ones and looks at each every second; what a connection then does is `core.guard`'s.
Standard library only: the device's server uses it too. Knows no setting.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

_MOST = 100_000  # connections, where the system sets no limit


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds, and numbers of connections; 0 connections of one address: no cap.

    A head must be whole within `head_s`, also that of a connection that has just been made. A body
    must bring 1,000 bytes a second over each `body_s`, or end. An answer's reader must take some of
    it within `reader_s`.
    """

    head_s: float = 10.0
    body_s: float = 30.0
    reader_s: float = 60.0
    per_address: int = 0
    total: int = _MOST


def room_for_connections() -> int:
    """How many connections leave enough file descriptors for everything else."""
    try:
        import resource
    except ImportError:  # Windows, whose devices have no such limit
        return _MOST
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(16, min(_MOST, soft - max(256, soft // 8)))


class Connection(Protocol):
    """One of them."""

    loop: asyncio.AbstractEventLoop

    def look(self, now: float) -> None:
        """End it if its client has taken too long; `now` by the loop's clock."""


class Connections:
    """The open ones of one server. `count` is told the reason of every one that is ended here."""

    def __init__(self, limits: Limits, count: Callable[[str], None] = lambda reason: None) -> None:
        self.limits = limits
        self.count = count
        self._open: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._tick_s = min(1.0, min(limits.head_s, limits.body_s, limits.reader_s) / 4)
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, one: Connection, address: str | None) -> str | None:
        """Count it in, and yield nothing; or why it must go."""
        if len(self._open) >= self.limits.total:
            return "total"
        if address is not None:
            if 0 < self.limits.per_address <= self._of_address[address]:
                return "address"
            self._of_address[address] += 1
        self._open.add(one)
        if self._timer is None:
            self._timer = one.loop.call_later(self._tick_s, self._look, one.loop)
        return None

    def release(self, one: Connection, address: str | None) -> None:
        """Count out one that was admitted."""
        if one not in self._open:
            return
        self._open.discard(one)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # One look at all of them every second costs less than a timer for each request.
        now = loop.time()
        for one in tuple(self._open):
            one.look(now)
        self._timer = loop.call_later(self._tick_s, self._look, loop) if self._open else None


@lru_cache(maxsize=4096)
def counted_as(host: str) -> str:
    """The address itself; of IPv6 the network of 64 bits, which one customer has to himself."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address, 64), strict=False))
