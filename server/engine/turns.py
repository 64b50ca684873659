"""Fair turns at work that few can do at a time. Must not know what the work is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from core.errors import Unavailable
from core.ids import TenantId


class Turns:
    """Some places, given to whose tenant has had them for the least time.

    A tenant that comes anew counts as having had what the least among those here has, so that
    nobody saves up time. `waiting`: how many of one tenant may wait.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self._free = places
        self._most = waiting
        self._waiting: list[tuple[TenantId, asyncio.Future[None]]] = []
        self._running: list[TenantId] = []
        self._spent_s: dict[TenantId, float] = {}

    @asynccontextmanager
    async def turn(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Have a place for the length of the block. Raises Unavailable if too many wait."""
        if sum(waits == tenant_id for waits, _ in self._waiting) >= self._most:
            raise Unavailable(
                f"{self._most} grammars of yours are waiting to be compiled; ask again when they "
                "are, or use the same schema for several requests.",
                code="too_many_grammars",
            )
        least_s = min(self._spent_s.values(), default=0.0)
        self._spent_s[tenant_id] = max(self._spent_s.get(tenant_id, 0.0), least_s)
        await self._place(tenant_id)
        began = monotonic()
        try:
            yield
        finally:
            self._spent_s[tenant_id] += monotonic() - began
            self._running.remove(tenant_id)
            self._free += 1
            self._forget(tenant_id)
            self._give()

    async def _place(self, tenant_id: TenantId) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (tenant_id, place)
        self._waiting.append(entry)
        self._give()
        try:
            await place
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not place.cancelled():  # it was given just now
                self._running.remove(tenant_id)
                self._free += 1
            self._forget(tenant_id)
            self._give()
            raise

    def _give(self) -> None:
        while self._free and self._waiting:
            entry = min(self._waiting, key=self._claim)
            self._waiting.remove(entry)
            tenant_id, place = entry
            self._free -= 1
            self._running.append(tenant_id)
            place.set_result(None)

    def _claim(self, entry: tuple[TenantId, asyncio.Future[None]]) -> tuple[int, float]:
        tenant_id = entry[0]
        return self._running.count(tenant_id), self._spent_s[tenant_id]

    def _forget(self, tenant_id: TenantId) -> None:
        here = {*self._running, *(waits for waits, _ in self._waiting)}
        if tenant_id not in here and self._spent_s[tenant_id] <= min(self._spent_s.values()):
            del self._spent_s[tenant_id]
        if not here:
            self._spent_s.clear()
