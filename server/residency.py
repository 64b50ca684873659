"""Which adapters are in the engine. Reference-counted, bounded, least recently used leaves.

Every load goes through here, never through the engine's own on-demand path: an error is then a
clean exception before the step, not the death of the engine inside it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from adapters.types import Version
from core.errors import AttuneError, Unavailable
from core.ids import Digest
from server import metrics
from server.engine import EngineAdapters


@dataclass(slots=True)
class _Entry:
    name: str
    engine_id: int
    references: int = 0
    retired: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    error: AttuneError | None = None


class _NoRoom(Unavailable):
    """Every place is taken by a running answer."""


class Residency:
    """Loads adapters on demand and keeps at most `capacity` of them in the engine.

    `fetch` returns the verified local folder of a digest (it runs in a worker thread and raises
    NotFound or Unavailable). A version that failed to load is refused for `retry_after_s`
    without asking the engine again. `report(version, error)` hears of every attempt.
    """

    def __init__(
        self,
        engine: EngineAdapters,
        fetch: Callable[[Digest], Path],
        *,
        capacity: int,
        report: Callable[[Version, AttuneError | None], None],
        room_timeout_s: float = 30.0,
        retry_after_s: float = 10.0,
    ) -> None:
        self._engine = engine
        self._fetch = fetch
        self._capacity = capacity
        self._report = report
        self._room_timeout_s = room_timeout_s
        self._retry_after_s = retry_after_s
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._failed: dict[int, tuple[float, AttuneError]] = {}
        self._one_load = asyncio.Lock()
        self._released = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lease(self, name: str, version: Version) -> AsyncIterator[None]:
        """Keep the version in the engine for the length of one answer.

        Raises Unavailable if it cannot be loaded or no room comes free in time.
        """
        entry = await self._acquire(name, version)
        try:
            yield
        finally:
            self._release(entry)

    async def preload(self, name: str, version: Version) -> None:
        """Have the version ready before the first request for it. Raises Unavailable."""
        self._failed.pop(version.engine_id, None)
        self._release(await self._acquire(name, version))

    def retire(self, engine_id: int) -> None:
        """Free the version as soon as its last answer has ended."""
        entry = self._entries.get(engine_id)
        if entry is not None:
            entry.retired = True
            if entry.references == 0:
                self._spawn_free(entry)

    @property
    def resident(self) -> list[int]:
        """Engine ids in the engine now, least recently used first."""
        return [entry.engine_id for entry in self._entries.values() if entry.ready.is_set()]

    async def _acquire(self, name: str, version: Version) -> _Entry:
        while True:
            entry = self._entries.get(version.engine_id)
            if entry is None:
                return await self._load(name, version)
            entry.references += 1
            if not entry.ready.is_set():
                try:
                    await entry.ready.wait()
                except BaseException:
                    self._release(entry)
                    raise
            if entry.error is not None:
                entry.references -= 1
                raise entry.error
            if self._entries.get(version.engine_id) is not entry:
                entry.references -= 1  # freed while we waited: load it anew
                continue
            entry.retired = False
            self._entries.move_to_end(version.engine_id)
            return entry

    async def _load(self, name: str, version: Version) -> _Entry:
        failed = self._failed.get(version.engine_id)
        if failed is not None:
            if time.monotonic() - failed[0] < self._retry_after_s:
                raise failed[1]
            del self._failed[version.engine_id]
        entry = _Entry(name, version.engine_id, references=1)
        self._entries[version.engine_id] = entry
        started = time.perf_counter()
        deadline = time.monotonic() + self._room_timeout_s  # the wait for one's turn included
        try:
            async with self._one_load:
                await self._make_room(deadline)
                path = await asyncio.to_thread(self._fetch, version.digest)
                await self._engine.load(name, version.engine_id, path)
        except BaseException as error:
            # Those who wait for this load find the entry gone: they see the error, or, when
            # only the one who began it was cancelled, load it themselves.
            del self._entries[version.engine_id]
            if not isinstance(error, Exception):
                entry.ready.set()
                raise
            entry.error = _unavailable(name, error)
            if not isinstance(error, _NoRoom):  # a full engine says nothing about the version
                self._failed[version.engine_id] = (time.monotonic(), entry.error)
                metrics.LOADS.labels("failed").inc()
                self._report(version, entry.error)
            entry.ready.set()
            raise entry.error from error
        entry.ready.set()
        metrics.LOADS.labels("loaded").inc()
        metrics.LOAD_SECONDS.observe(time.perf_counter() - started)
        metrics.RESIDENT.set(len(self.resident))
        self._report(version, None)
        return entry

    async def _make_room(self, deadline: float) -> None:
        # Loads come one at a time, so that those who wait for theirs take no place yet.
        while len(self.resident) >= self._capacity:
            idle = next(
                (e for e in self._entries.values() if e.references == 0 and e.ready.is_set()), None
            )
            if idle is not None:
                metrics.EVICTIONS.inc()
                await self._free(idle)
                continue
            self._released.clear()
            try:
                await asyncio.wait_for(self._released.wait(), deadline - time.monotonic())
            except TimeoutError as error:
                raise _NoRoom(
                    f"All {self._capacity} adapter places are in use by running answers. Try "
                    "again shortly, or raise ATTUNE_MAX_CPU_LORAS."
                ) from error

    def _release(self, entry: _Entry) -> None:
        entry.references -= 1
        if entry.references == 0:
            self._released.set()
            if entry.retired:
                self._spawn_free(entry)

    def _spawn_free(self, entry: _Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._free_retired(entry))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _free_retired(self, entry: _Entry) -> None:
        async with self._one_load:
            if entry.retired and entry.references == 0:
                await self._free(entry)

    async def _free(self, entry: _Entry) -> None:
        if self._entries.get(entry.engine_id) is entry:
            del self._entries[entry.engine_id]
            await self._engine.unload(entry.name, entry.engine_id)
            metrics.RESIDENT.set(len(self.resident))


def _unavailable(name: str, error: Exception) -> Unavailable:
    """The version exists; whatever keeps it from the engine is this server's trouble."""
    if isinstance(error, Unavailable):
        return error
    reason = error.message if isinstance(error, AttuneError) else type(error).__name__
    return Unavailable(f"Adapter '{name.rpartition('/')[2]}' cannot be loaded now: {reason}")
