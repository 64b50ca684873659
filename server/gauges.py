"""The gauges of runs, verdicts and exports: counted in the database, whoever works on them."""

from __future__ import annotations

import asyncio
import logging

from adapters.exports import STATES, ExportStore
from feedback.runs import ACTIVE, END, RunStore
from server import metrics

logger = logging.getLogger("attune.server")


async def keep_current(runs: RunStore, exports: ExportStore, interval_s: float = 5.0) -> None:
    """Set them for ever; a database that cannot be reached is tried again."""
    while True:
        try:
            counts = await asyncio.to_thread(runs.count_by_state)
            for state in (*ACTIVE, *END):
                metrics.RUNS.labels(state).set(counts.get(state, 0))
            metrics.VERDICTS.labels("promoted").set(counts.get("succeeded", 0))
            metrics.VERDICTS.labels("rejected").set(counts.get("rejected", 0))
            made = await asyncio.to_thread(exports.count_by_state)
            for export_state in STATES:
                metrics.EXPORTS.labels(export_state).set(made.get(export_state, 0))
        except Exception:
            logger.exception("Cannot count the runs and exports.")
        await asyncio.sleep(interval_s)
