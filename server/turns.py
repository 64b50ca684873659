"""Turns: so many pieces of a tenant's work at once; its others wait, in order, and nobody else's.

Knows no work and no tenant but by id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from core.errors import TooMany
from core.ids import TenantId


@dataclass(slots=True)
class _Line:
    places: asyncio.Semaphore
    length: int = 0  # those at work among them


class Turns:
    """At most `at_once` of one tenant at work, and `waiting` more of it in line."""

    def __init__(self, what: str, *, at_once: int, waiting: int) -> None:
        self._what = what
        self._at_once = at_once
        self._longest = at_once + waiting
        self._lines: dict[TenantId, _Line] = {}

    @asynccontextmanager
    async def of(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Hold one of the tenant's places. Raises TooMany if its line is full."""
        line = self._lines.setdefault(tenant_id, _Line(asyncio.Semaphore(self._at_once)))
        if line.length >= self._longest:
            raise TooMany(
                f"Too many {self._what} at once: this server takes {self._at_once} of a tenant at "
                f"a time and lets {self._longest - self._at_once} wait. Try again shortly, with "
                "fewer at once."
            )
        line.length += 1
        try:
            async with line.places:
                yield
        finally:
            line.length -= 1
            if line.length == 0:
                del self._lines[tenant_id]
