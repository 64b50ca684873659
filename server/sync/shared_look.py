"""Many who want to look at once look together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class SharedLook:
    """One more look at the registry, for everybody who asks before it begins.

    Begins `spacing_s` after the last one at the earliest and never beside it, so that any number
    of askers cost no more than one who asks for ever.
    """

    def __init__(self, look: Callable[[], Awaitable[None]], *, spacing_s: float = 0.0) -> None:
        self._look = look
        self._spacing_s = spacing_s
        self._turn = asyncio.Lock()
        self._began_at = float("-inf")
        self._next: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Return after a look that began after this call. Raises what the look raises."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._begin())
        await asyncio.shield(self._next)

    async def _begin(self) -> None:
        async with self._turn:
            await asyncio.sleep(self._began_at + self._spacing_s - time.monotonic())
            self._next, self._began_at = None, time.monotonic()
            await self._look()
