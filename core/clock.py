"""Wall-clock time as the stores keep it: float seconds since the epoch, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_s() -> float:
    """Seconds since the epoch, UTC."""
    return time.time()


def iso(at_s: float | None) -> str | None:
    """ISO 8601 with milliseconds, for people and JSON."""
    if at_s is None:
        return None
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
