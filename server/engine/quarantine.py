"""Takes versions with absurd weights out of service: in the registry, so that every server does.

Owns when the engine is asked; what a quarantined version may still do is the registry's and the
routing's to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress

from adapters.quarantine import quarantine
from adapters.types import Version
from core.database import Database
from core.errors import AttuneError
from server.engine.port import EngineAdapters
from server.engine.trial import Absurd, require_bounds
from server.pools import OWN, run_in

logger = logging.getLogger("attune.server")


class Quarantine:
    """Asks the engine at the end of each answer of a version, and acts on what it says."""

    def __init__(self, engine: EngineAdapters, database: Database) -> None:
        self._engine = engine
        self._database = database
        self._background: set[asyncio.Task[None]] = set()

    async def require_sound(self, name: str, version: Version) -> None:
        """Raises Absurd if the version has left its bounds; it is quarantined by then."""
        try:
            await require_bounds(self._engine, name, version.engine_id)
        except Absurd as error:
            await self._put(version, error)
            raise

    def check_soon(self, name: str, version: Version) -> None:
        """`require_sound` for an answer that nobody waits for any more."""
        self._spawn(self._check(name, version))

    def put_soon(self, version: Version, error: AttuneError) -> None:
        """Quarantine a version that failed its trial."""
        self._spawn(self._put(version, error))

    async def _check(self, name: str, version: Version) -> None:
        with suppress(Absurd):
            await self.require_sound(name, version)

    async def _put(self, version: Version, error: AttuneError) -> None:
        try:
            await run_in(
                OWN, quarantine, self._database, version.adapter_id, version.number, error.message
            )
            logger.warning("Quarantined. %s", error.message)
        except Exception:  # its next answer fails all the same, and tries again
            logger.exception("Cannot quarantine a version. %s", error.message)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
