"""An engine that keeps the names of its adapters in memory, and plays absurd weights as told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path


class Engine:
    """Adapters in memory; `before_load` may wait or refuse.

    Adapters whose folder is in `absurd` are large, and leave their bounds in any answer; `leave`
    has a large one do so in an answer of somebody's.
    """

    def __init__(self) -> None:
        self.dead = False
        self.loaded: dict[int, str] = {}
        self.tried: list[str] = []
        self.absurd: Callable[[Path], bool] = lambda path: False
        self._large: dict[str, int] = {}
        self._outside: set[int] = set()
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
        if self.absurd(path):
            self._large[name] = engine_id

    async def unload(self, name: str, engine_id: int) -> None:
        del self.loaded[engine_id]

    async def answer(self, name: str, prompt_tokens: Sequence[int]) -> None:
        assert name in self.loaded.values()
        self.tried.append(name)
        if name in self._large:
            self._outside.add(self._large[name])

    def alive(self) -> bool:
        return not self.dead

    def leave(self, engine_id: int) -> None:
        """This adapter has left its bounds."""
        self._outside.add(engine_id)

    def is_large(self, engine_id: int) -> bool:
        return engine_id in self._large.values() or engine_id in self._outside

    async def has_left_bounds(self, engine_id: int) -> bool:
        return engine_id in self._outside
