"""Tells the registry which versions this server cannot load, and when that is mended."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from adapters.load_reports import LoadReports
from adapters.types import Version
from core.errors import AttuneError
from core.places import without_places
from server.pools import OWN

logger = logging.getLogger("attune.server")


class LoadReporter:
    """Hears of every load. One that worked at once costs no write; writes happen in a thread, and
    one that fails is logged, never raised."""

    def __init__(self, reports: LoadReports, server_id: str) -> None:
        self._reports = reports
        self._server_id = server_id
        self._failed: set[int] = set()

    def __call__(self, version: Version, error: AttuneError | None) -> None:
        engine_id = version.engine_id
        if error is not None:
            self._failed.add(engine_id)
            outcome = ("failed", without_places(error.message))
        elif engine_id in self._failed:
            self._failed.discard(engine_id)
            outcome = ("resident", "")
        else:
            return
        put = partial(self._reports.put, self._server_id, engine_id, *outcome)
        asyncio.get_running_loop().run_in_executor(OWN, put).add_done_callback(_log_failure)


def _log_failure(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()):
        logger.error("Cannot write a load report.", exc_info=error)
