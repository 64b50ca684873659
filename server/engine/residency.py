"""Which adapters are in the engine. Reference-counted, bounded, least recently used leaves.

Every load goes through here, never through the engine's own on-demand path: an error is then a
clean exception before the step, not the death of the engine inside it. Two bounds hold: the
copies in host memory (`capacity`), and the adapters of one step (`slots`, see server.engine.slots).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.types import Version
from core.errors import AttuneError
from core.ids import Digest
from server import metrics
from server.engine.port import EngineAdapters
from server.engine.slots import Slots
from server.engine.stay import NoRoom, Stay, unavailable
from server.engine.trial import try_out
from server.pools import WEIGHTS, run_in

logger = logging.getLogger("attune.residency")

_FIRST_TRIAL_ID = 1 << 40
"""Weights that are no version yet have engine ids from here on; the registry counts from 1."""


class Residency:
    """Loads adapters on demand and keeps at most `capacity` of them in the engine.

    `fetch` returns the verified local folder of a digest (it runs in a worker thread and raises
    NotFound or Unavailable). A version that failed to load is refused for `retry_after_s`
    without asking the engine again. `report(version, error)` hears of every attempt. An adapter
    asked for repeatedly that had to make room comes back by itself once a place is free. Large
    weights are tried before anybody is answered by them (see server.engine.trial).
    """

    def __init__(
        self,
        engine: EngineAdapters,
        fetch: Callable[[Digest], Path],
        *,
        capacity: int,
        report: Callable[[Version, AttuneError | None], None],
        slots: Slots | None = None,
        room_timeout_s: float = 30.0,
        retry_after_s: float = 10.0,
    ) -> None:
        self._engine = engine
        self._fetch = fetch
        self._capacity = capacity
        self._report = report
        self._slots = slots
        self._room_timeout_s = room_timeout_s
        self._retry_after_s = retry_after_s
        self._entries: OrderedDict[int, Stay] = OrderedDict()
        self._occupied = 0  # of them in the engine
        self._missed: dict[int, tuple[str, Version]] = {}  # made room though in demand
        self._failed: dict[int, tuple[float, AttuneError]] = {}
        self._sound: set[Digest] = set()  # passed their trial
        self._trial_ids = itertools.count(_FIRST_TRIAL_ID)
        self._one_load = asyncio.Lock()
        self._released = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lease(
        self, name: str, version: Version, *, generates: bool = True
    ) -> AsyncIterator[None]:
        """Keep the version in the engine, with a slot of its steps, for the length of one answer.

        A request that `generates` nothing (it counts tokens) needs no slot. Raises Unavailable if
        the version cannot be loaded or if no room or slot comes free in time.
        """
        entry = await self._acquire(name, version)
        entry.asked += 1
        try:
            if not generates:
                yield
                return
            async with self._slot(version.engine_id):
                yield
        finally:
            self._release(entry)

    async def try_out(self, name: str, digest: Digest, path: Path) -> None:
        """Load weights that are no version yet, let them answer for nobody, and free them.

        Raises Absurd if they leave their bounds, Unavailable if they cannot be loaded now.
        """
        engine_id = next(self._trial_ids)
        name = f"trial-{engine_id}/{name}"  # never reused: the engine keeps its caches by name
        deadline = time.monotonic() + self._room_timeout_s
        async with self._one_load:
            await self._make_room(deadline)
            await self._engine.load(name, engine_id, path)
            self._occupied += 1
        try:
            await self._try_out(name, engine_id, digest)
        finally:
            self._occupied -= 1
            self._spawn(self._engine.unload(name, engine_id))
            self._released.set()
            self._welcome_back()

    async def preload(self, name: str, version: Version, *, swap: bool = True) -> None:
        """Have the version ready before the first request for it. Raises Unavailable.

        The time the engine took for it counts as a `swap`'s.
        """
        self._failed.pop(version.engine_id, None)
        entry = await self._acquire(name, version)
        if swap and entry.stall_s:
            metrics.SWAP_STALL_SECONDS.observe(entry.stall_s)
            entry.stall_s = 0.0
        self._release(entry)

    async def preload_quietly(self, name: str, version: Version) -> None:
        """`preload` of what nobody has asked for yet: a failure is logged."""
        try:
            await self.preload(name, version, swap=False)
        except AttuneError as error:
            logger.warning("Cannot load '%s' before it is asked for. %s", name, error.message)

    def retire(self, engine_id: int) -> None:
        """Free the version as soon as its last answer has ended."""
        self._missed.pop(engine_id, None)
        entry = self._entries.get(engine_id)
        if entry is not None:
            entry.retired = True
            if entry.references == 0:
                self._spawn(self._free_retired(entry))

    @property
    def resident(self) -> list[int]:
        """Engine ids in the engine now, least recently used first."""
        return [number for number, entry in self._entries.items() if entry.ready.is_set()]

    @asynccontextmanager
    async def _slot(self, engine_id: int) -> AsyncIterator[None]:
        if self._slots is None:
            yield
            return
        if not self._slots.take(engine_id):
            with metrics.waiting("slot"):
                await self._slots.wait(engine_id)
        try:
            yield
        finally:
            self._slots.leave(engine_id)

    async def _try_out(self, name: str, engine_id: int, digest: Digest) -> None:
        async with self._slot(engine_id):
            await try_out(self._engine, name, engine_id)
        self._sound.add(digest)

    async def _acquire(self, name: str, version: Version) -> Stay:
        while True:
            entry = self._entries.get(version.engine_id)
            if entry is None:
                with metrics.waiting("load"):
                    return await self._load(name, version)
            entry.references += 1
            if not entry.ready.is_set():
                try:
                    with metrics.waiting("load"):
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

    async def _load(self, name: str, version: Version) -> Stay:
        failed = self._failed.get(version.engine_id)
        if failed is not None:
            if time.monotonic() - failed[0] < self._retry_after_s:
                raise failed[1]
            del self._failed[version.engine_id]
        entry = Stay(name, version, references=1)
        self._entries[version.engine_id] = entry
        started = time.perf_counter()
        deadline = time.monotonic() + self._room_timeout_s  # the wait for one's turn included
        loaded = False
        try:
            path = await run_in(WEIGHTS, self._fetch, version.digest)
            async with self._one_load:
                await self._make_room(deadline)
                began = time.perf_counter()
                await self._engine.load(name, version.engine_id, path)
                entry.stall_s = time.perf_counter() - began
                self._occupied += 1
                loaded = True
            if self._engine.is_large(version.engine_id) and version.digest not in self._sound:
                await self._try_out(name, version.engine_id, version.digest)
        except BaseException as error:
            # Those who wait for this load find the entry gone: they see the error, or, when
            # only the one who began it was cancelled, load it themselves.
            if loaded:
                self._drop(entry)
                self._spawn(self._engine.unload(name, version.engine_id))
                self._released.set()
            else:
                del self._entries[version.engine_id]
            if not isinstance(error, Exception):
                entry.ready.set()
                raise
            entry.error = unavailable(name, error)
            if isinstance(error, NoRoom):
                metrics.LOADS.labels("no_room").inc()  # says nothing about the version
            else:
                self._failed[version.engine_id] = (time.monotonic(), entry.error)
                metrics.LOADS.labels("failed").inc()
                self._report(version, entry.error)
            entry.ready.set()
            raise entry.error from error
        entry.ready.set()
        self._missed.pop(version.engine_id, None)
        metrics.LOADS.labels("loaded").inc()
        metrics.LOAD_SECONDS.observe(time.perf_counter() - started)
        metrics.RESIDENT.set(self._occupied)
        self._report(version, None)
        return entry

    async def _make_room(self, deadline: float) -> None:
        # Loads come one at a time, so that those who wait for theirs take no place yet.
        while self._occupied >= self._capacity:
            idle = next(
                (e for e in self._entries.values() if e.references == 0 and e.ready.is_set()), None
            )
            if idle is not None:
                metrics.EVICTIONS.inc()
                self._miss(idle)
                self._drop(idle)
                # The load that follows need not wait for the engine's word on this.
                self._spawn(self._engine.unload(idle.name, idle.version.engine_id))
                await asyncio.sleep(0)  # begun, that is
                continue
            self._released.clear()
            try:
                with metrics.waiting("room"):
                    await asyncio.wait_for(self._released.wait(), deadline - time.monotonic())
            except TimeoutError as error:
                raise NoRoom(
                    f"All {self._capacity} adapter places are in use by running answers. Try "
                    "again shortly, or raise ATTUNE_MAX_CPU_LORAS."
                ) from error

    def _miss(self, entry: Stay) -> None:
        if entry.asked > 1 and not entry.retired:
            if len(self._missed) >= self._capacity:
                del self._missed[next(iter(self._missed))]
            self._missed[entry.version.engine_id] = (entry.name, entry.version)

    def _welcome_back(self) -> None:
        """A place is free that nobody waits for: for who made room last, of those in demand."""
        if self._missed and self._occupied < self._capacity and not self._one_load.locked():
            _, (name, version) = self._missed.popitem()
            self._spawn(self.preload_quietly(name, version))

    def _release(self, entry: Stay) -> None:
        entry.references -= 1
        if entry.references == 0:
            self._released.set()
            if entry.retired:
                self._spawn(self._free_retired(entry))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _free_retired(self, entry: Stay) -> None:
        async with self._one_load:
            if entry.retired and entry.references == 0 and self._drop(entry):
                await self._engine.unload(entry.name, entry.version.engine_id)
        self._welcome_back()

    def _drop(self, entry: Stay) -> bool:
        """Nobody gets it from now on; whether it was there."""
        if self._entries.get(entry.version.engine_id) is not entry:
            return False
        del self._entries[entry.version.engine_id]
        self._occupied -= 1
        metrics.RESIDENT.set(self._occupied)
        return True
