"""An engine that keeps the names of its adapters in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path


class Engine:
    """Adapters in memory; `before_load` may wait or refuse."""

    def __init__(self) -> None:
        self.loaded: dict[int, str] = {}
        self.before_load: Callable[[int], Awaitable[None]] | None = None

    def hold(self) -> tuple[asyncio.Event, asyncio.Event]:
        """Every load waits: one event says that one has begun, the other lets them go on."""
        began, go = asyncio.Event(), asyncio.Event()

        async def wait(_: int) -> None:
            began.set()
            await go.wait()

        self.before_load = wait
        return began, go

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        if self.before_load is not None:
            await self.before_load(engine_id)
        self.loaded[engine_id] = name

    async def unload(self, name: str, engine_id: int) -> None:
        del self.loaded[engine_id]
