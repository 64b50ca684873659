"""Reconciles this server with the registry: look, preload, flip, retire.

Promotion, rollback, a new key, a restart: all arrive here as "the registry changed". The
directory that requests are routed by only ever names live versions that are in the engine. What
is not in it is searched for after one more look: what was made a moment ago works at once, and a
flood of made-up names costs a few looks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from adapters.directory import Directory, News, load_directory, renew_directory
from adapters.routing import engine_name
from adapters.types import Adapter, Version
from core.database import Database
from core.errors import AttuneError, Conflict, NotFound, Unavailable
from core.identity.types import ApiKey
from core.ids import AdapterId, Digest
from server import metrics
from server.engine.residency import Residency
from server.pools import REGISTRY, run_in
from server.sync.local_directory import LocalDirectory, worth_loading

logger = logging.getLogger("attune.sync")

_RETRY_S = 10.0
_SPACING_S = 0.05

Found = TypeVar("Found")


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


@contextmanager
def _never_fatal() -> Iterator[None]:
    try:
        yield
    except Unavailable:  # twenty times a second for as long as it lasts; told elsewhere
        metrics.SYNC_ERRORS.inc()
    except Exception:
        metrics.SYNC_ERRORS.inc()
        logger.exception("Cannot read the registry; serving goes on with what is known.")


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
        on_live: Callable[[Version], None],
        base_digest: Digest | None = None,
    ) -> None:
        self._database = database
        self._residency = residency
        self._interval_s = interval_s
        self._publish_interval_s = publish_interval_s
        self._on_live = on_live
        self._base_digest = base_digest
        # Know the keys, tenants and names there are now. Versions live in the registry but not yet
        # here stay as they are, so it is quick: `refresh` takes them over.
        self.look = SharedLook(self._look)
        self._look_for_key = SharedLook(self.look, spacing_s=_SPACING_S)
        self._look_for_model = SharedLook(self.refresh, spacing_s=_SPACING_S)
        self._taking_over = asyncio.Lock()
        self._not_before: dict[tuple[AdapterId, int], float] = {}  # failed: try again then
        self._local = LocalDirectory(Directory())

    @property
    def directory(self) -> Directory:
        """The registry, with the live versions this server has."""
        return self._local.directory

    async def start(self, recent: Sequence[AdapterId], *, limit: int) -> None:
        """Take over the registry as it is, and load at most `limit` live versions, those asked for
        lately first. One that cannot be loaded is logged and left to its first request.
        """
        self._local = LocalDirectory(await run_in(REGISTRY, load_directory, self._database))
        for adapter in worth_loading(self.directory, recent, limit=limit):
            assert adapter.live_version is not None
            version = self.directory.versions[adapter.id][adapter.live_version]
            if not version.is_for(self._base_digest):
                continue
            name = engine_name(adapter.tenant_id, adapter, version)
            await self._residency.preload_quietly(name, version)

    async def key(self, public_id: str) -> ApiKey | None:
        """The key of that public id. Raises Unavailable if the registry cannot be asked."""
        if public_id not in self.directory.keys:
            await self._look_for_key()
        return self.directory.keys.get(public_id)

    async def find(self, model: Callable[[Directory], Found]) -> Found:
        """What `model` finds in the directory, if need be after a look.

        Raises NotFound as `model` does, Unavailable if that cannot be told.
        """
        try:
            return model(self.directory)
        except NotFound:
            await self._look_for_model()
            return model(self.directory)

    async def follow(self) -> None:
        """Look at the registry for ever; an unreachable database is retried, never fatal.

        What has to be loaded is taken over beside the looks: a load may wait for room, and a
        revoked key may not.
        """
        taking_over: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                with _never_fatal():
                    await self.look()
                    if self._due() and (taking_over is None or taking_over.done()):
                        taking_over = asyncio.create_task(self._catch_up_quietly())
        finally:
            if taking_over is not None:
                taking_over.cancel()

    async def _catch_up_quietly(self) -> None:
        with _never_fatal():
            await self._catch_up()

    async def _look(self) -> None:
        """Raises Unavailable while the database is."""
        news = await run_in(REGISTRY, self._news, self._local.seen)
        if news is not None:
            self._local.take(news)

    def _news(self, seen: Directory) -> News | None:
        if self._database.last_change() <= seen.change:
            return None
        return renew_directory(self._database, seen)

    async def refresh(self) -> None:
        """Catch up with the registry now, live versions included."""
        await self.look()
        await self._catch_up()

    async def _catch_up(self) -> None:
        async with self._taking_over:
            loaded, tried = False, set[tuple[AdapterId, int]]()
            # Again for what has moved on meanwhile: who asked for it by name waits for this.
            while due := [a for a in self._due() if (a.id, a.generation) not in tried]:
                for adapter in due:
                    tried.add((adapter.id, adapter.generation))
                    if loaded and adapter.live_version is not None:
                        # One load stalls all decoding for its duration: leave room between two.
                        await asyncio.sleep(self._publish_interval_s)
                    loaded |= await self._take_over(adapter)

    def _require_own(self, version: Version) -> None:
        if not version.is_for(self._base_digest):
            # A server on another base model shares the database, and has changed it.
            raise Conflict("It was made for another base model. Restart this server with that one.")

    def _due(self) -> list[Adapter]:
        """What this server is behind with, less what it failed to load a moment ago."""
        now = time.monotonic()
        behind = {(adapter.id, adapter.generation): adapter for adapter in self._local.behind()}
        # What is wanted no longer need not be remembered.
        self._not_before = {k: at for k, at in self._not_before.items() if k in behind and at > now}
        return [adapter for key, adapter in behind.items() if key not in self._not_before]

    async def _take_over(self, adapter: Adapter) -> bool:
        """Make the adapter's live version this server's; whether one was loaded."""
        started = time.perf_counter()
        versions = self._local.seen.versions.get(adapter.id, {})
        new = None if adapter.live_version is None else versions[adapter.live_version]
        if new is not None:
            try:
                self._require_own(new)
                await self._residency.preload(engine_name(adapter.tenant_id, adapter, new), new)
            except AttuneError as error:
                metrics.SWAPS.labels("failed").inc()
                logger.error(
                    "Cannot load version %s of '%s'; what was live goes on serving. %s",
                    new.number,
                    adapter.name,
                    error.message,
                )
                self._not_before[adapter.id, adapter.generation] = time.monotonic() + _RETRY_S
                self._local.unavailable(adapter)
                return False
        before = self._local.live_here(adapter)
        if not self._local.served(adapter):
            # The registry has moved on while this was loaded; its next version comes next.
            if new is not None and before != new.number:
                self._residency.retire(new.engine_id)
            return new is not None
        metrics.SWAPS.labels("done").inc()
        metrics.SWAP_SECONDS.observe(time.perf_counter() - started)
        if before is not None:
            self._residency.retire(versions[before].engine_id)
        if new is None:
            logger.info("%s is now answered by the base model", adapter.name)
        else:
            logger.info("%s is now live at version %s", adapter.name, new.number)
            self._on_live(new)
        return new is not None
