"""Wall-clock time as the stores keep it: float seconds since the epoch, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime

END_OF_TIME_S = 253_402_300_800.0
"""The year 10000, which no calendar here can write."""


def now_s() -> float:
    """Seconds since the epoch, UTC."""
    return time.time()


def iso(at_s: float | None) -> str | None:
    """ISO 8601 with milliseconds, for people and JSON."""
    if at_s is None:
        return None
    if not 0 <= at_s < END_OF_TIME_S:
        return str(at_s)  # stored before such times were refused; a list must not fail for one
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
