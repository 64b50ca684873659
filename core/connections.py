"""Which HTTP connections there may be: how many, in all and of each address, and how slow.

Counts the open ones and looks at each every second; what a connection then does is `core.guard`'s.
Standard library only: the device's server uses it too. Knows no setting.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
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

    @property
    def patience(self) -> int | None:
        """How much it would lose by being closed now: None while it is answered, 0 at least."""

    def look(self, now: float) -> None:
        """End it if its client has taken too long; `now` by the loop's clock."""

    def give_way(self, reason: str) -> None:
        """Close it, to make room."""


class Connections:
    """The open ones of one server. `count` is told the reason of every one that is ended.

    Where there are too many, one that keeps the server waiting gives way to the new one, so that
    who holds half requests displaces his own; the new one is turned away if all are being answered.
    """

    def __init__(self, limits: Limits, count: Callable[[str], None] = lambda reason: None) -> None:
        self.limits = limits
        self.count = count
        self._open: dict[Connection, str] = {}
        self._of_address: dict[str, dict[Connection, None]] = {}  # oldest first
        self._tick_s = min(1.0, min(limits.head_s, limits.body_s, limits.reader_s) / 4)
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, one: Connection, address: str) -> str | None:
        """Count it in, and yield nothing; or why it must go. `address`: "" is never capped."""
        siblings = self._of_address.get(address, {})
        if address and 0 < self.limits.per_address <= len(siblings):
            crowd, reason = siblings, "address"
        elif len(self._open) >= self.limits.total:
            crowd, reason = max(self._of_address.values(), key=len), "total"
        else:
            crowd, reason = {}, ""
        if reason and not _make_room(crowd, reason):
            return reason
        self._open[one] = address
        self._of_address.setdefault(address, {})[one] = None
        if self._timer is None:
            self._timer = one.loop.call_later(self._tick_s, self._look, one.loop)
        return None

    def release(self, one: Connection) -> None:
        """Count it out, if it was ever counted in."""
        address = self._open.pop(one, None)
        if address is not None:
            siblings = self._of_address[address]
            del siblings[one]
            if not siblings:
                del self._of_address[address]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # One look at all of them every second costs less than a timer for each request.
        now = loop.time()
        for one in tuple(self._open):
            one.look(now)
        self._timer = loop.call_later(self._tick_s, self._look, loop) if self._open else None


def _make_room(among: Iterable[Connection], reason: str) -> bool:
    """Close the one that loses least, of those the oldest; False if all are being answered."""
    found: Connection | None = None
    least: int | None = None
    for one in among:
        patience = one.patience
        if patience is not None and (least is None or patience < least):
            found, least = one, patience
            if least == 0:
                break
    if found is not None:
        found.give_way(reason)
    return found is not None


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
