"""Reconciles this server with the registry: look, preload, flip, retire.

Promotion, rollback, a new key, a restart: all arrive here as "the registry changed". The
directory that requests are routed by only ever names live versions that are in the engine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from adapters.directory import Directory, load_directory
from adapters.routing import engine_name
from adapters.types import Adapter, Version
from core.database import Database, last_change
from core.errors import AttuneError, Unavailable
from core.held import HeldConnection
from core.ids import AdapterId
from server import metrics
from server.residency import Residency

logger = logging.getLogger("attune.sync")

_GLANCE_S = 0.01


class RegistrySync:
    """Follows the registry, at most `interval_s` behind it.

    `on_live(version)` is called after a version has become this server's live one.
    """

    def __init__(
        self,
        database: Database,
        residency: Residency,
        *,
        interval_s: float,
        publish_interval_s: float,
        preload_limit: int,
        on_live: Callable[[Version], None],
    ) -> None:
        self._database = database
        self._changes = HeldConnection(database)
        self._residency = residency
        self._interval_s = interval_s
        self._publish_interval_s = publish_interval_s
        self._preload_limit = preload_limit
        self._on_live = on_live
        self._looking = asyncio.Lock()
        self._taking_over = asyncio.Lock()
        self._looked_at = float("-inf")
        self._retry_at = 0.0
        self._stamp = database.stamp()
        self._seen = Directory()  # the registry as it is
        self._taken_over = 0  # the change up to which live versions were taken over
        self.directory = Directory()  # the same, with the live versions this server has

    async def start(self) -> None:
        """Take over the registry as it is and have the live versions ready."""
        directory = await asyncio.to_thread(load_directory, self._database)
        for adapter in list(directory.by_name.values())[-self._preload_limit :]:
            if adapter.live_version is not None:
                version = directory.versions[adapter.id][adapter.live_version]
                await self._preload(adapter, version)
        self.directory = self._seen = directory
        self._taken_over = directory.change

    def close(self) -> None:
        """Give the connection back; nothing may be looking any more."""
        self._changes.close()

    async def follow(self) -> None:
        """Look at the registry for ever; an unreachable database is retried, never fatal."""
        while True:
            await self._until_due()
            try:
                await self.refresh()
            except Exception:
                metrics.SYNC_ERRORS.inc()
                logger.exception("Cannot read the registry; serving goes on with what is known.")

    def _last_change(self) -> int:
        with self._changes.transaction() as connection:
            return last_change(connection)

    async def _until_due(self) -> None:
        """An interval, cut short when the database is seen to have been written to."""
        due_at = time.monotonic() + self._interval_s
        while (left_s := due_at - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, _GLANCE_S) if self._stamp is not None else left_s)
            if (now := self._database.stamp()) != self._stamp:
                self._stamp = now
                return

    async def look(self) -> None:
        """Know the keys, tenants and names there are now; loads nothing, so it is quick.

        Versions that are live in the registry but not yet here stay as they are: `refresh`
        takes them over. Who asks while another look is about to begin shares that one.
        Raises Unavailable while the database is.
        """
        asked_at = time.monotonic()
        async with self._looking:
            if self._looked_at > asked_at:
                return
            began_at = time.monotonic()
            try:
                if await asyncio.to_thread(self._last_change) > self._seen.change:
                    self._seen = await asyncio.to_thread(load_directory, self._database)
                    self.directory = _as_known(self._seen, _live_in(self.directory))
            except SQLAlchemyError as error:
                raise Unavailable("The registry cannot be read now; try again.") from error
            self._looked_at = began_at

    async def refresh(self) -> None:
        """Catch up with the registry now, live versions included."""
        await self.look()
        async with self._taking_over:
            lagging = self._retry_at and time.monotonic() >= self._retry_at
            if self._seen.change > self._taken_over or lagging:
                self._retry_at = 0.0
                await self._take_over(self._seen)

    async def _take_over(self, new: Directory) -> None:
        old = self.directory
        unloadable: list[Adapter] = []
        moved: list[tuple[Adapter | None, Adapter, float]] = []
        for key, adapter in new.by_name.items():
            before = old.by_name.get(key)
            if adapter.live_version == (before.live_version if before else None):
                continue
            started = time.perf_counter()
            if adapter.live_version is not None:
                if moved:
                    # One load stalls all decoding for its duration: leave room between two.
                    await asyncio.sleep(self._publish_interval_s)
                version = new.versions[adapter.id][adapter.live_version]
                if not await self._preload(adapter, version):
                    unloadable.append(adapter)
                    self._retry_at = time.monotonic() + 10.0
                    continue
            moved.append((before, adapter, started))
        # A look may have renewed the directory meanwhile: only the live versions move here.
        live = {adapter.id: None for adapter in unloadable} | _live_in(self.directory)
        live |= {adapter.id: adapter.live_version for _, adapter, _ in moved}
        self.directory = _as_known(self._seen, live)
        self._taken_over = new.change
        for before, adapter, started in moved:
            self._finish_swap(new, before, adapter, started)

    def _finish_swap(
        self, new: Directory, before: Adapter | None, adapter: Adapter, started: float
    ) -> None:
        metrics.SWAPS.labels("done").inc()
        metrics.SWAP_SECONDS.observe(time.perf_counter() - started)
        if before is not None and before.live_version is not None:
            self._residency.retire(new.versions[adapter.id][before.live_version].engine_id)
        if adapter.live_version is not None:
            logger.info("%s is now live at version %s", adapter.name, adapter.live_version)
            self._on_live(new.versions[adapter.id][adapter.live_version])
        else:
            logger.info("%s is now answered by the base model", adapter.name)

    async def _preload(self, adapter: Adapter, version: Version) -> bool:
        try:
            await self._residency.preload(engine_name(adapter.tenant_id, adapter, version), version)
        except AttuneError as error:
            metrics.SWAPS.labels("failed").inc()
            logger.error(
                "Cannot load version %s of '%s'; what was live goes on serving. %s",
                version.number,
                adapter.name,
                error.message,
            )
            return False
        return True


def _live_in(directory: Directory) -> dict[AdapterId, int | None]:
    return {adapter.id: adapter.live_version for adapter in directory.by_name.values()}


def _as_known(seen: Directory, live: Mapping[AdapterId, int | None]) -> Directory:
    """`seen` with the live versions of `live`.

    An adapter not in `live` that is born with a live version is left out: asked for by name it
    is then loaded at once, instead of being answered by the base.
    """

    def known(adapter: Adapter) -> Adapter | None:
        number = live.get(adapter.id)
        if adapter.live_version == number:
            return adapter
        return replace(adapter, live_version=number) if adapter.id in live else None

    by_name = {key: known(adapter) for key, adapter in seen.by_name.items()}
    by_subject = {key: known(adapter) for key, adapter in seen.by_subject.items()}
    return replace(
        seen,
        by_name={key: adapter for key, adapter in by_name.items() if adapter},
        by_subject={key: adapter for key, adapter in by_subject.items() if adapter},
    )
