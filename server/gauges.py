"""The gauges of durable work: counted in the database, whoever works on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from core.work.kind import Kind
from server import metrics

logger = logging.getLogger("attune.server")


async def keep_current(kinds: Iterable[Kind[Any, Any]], interval_s: float = 5.0) -> None:
    """Set them for ever; a database that cannot be reached is tried again."""
    while True:
        try:
            for kind in kinds:
                counts = await asyncio.to_thread(kind.ledger.count_by_state)
                metrics.count_work(kind.spec.plural, kind.spec.states, counts)
        except Exception:
            logger.exception("Cannot count the work.")
        await asyncio.sleep(interval_s)
