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


def moment_s(text: object) -> float:
    """Seconds since the epoch of a time in ISO 8601, in UTC where it names no zone, or of a number.

    Raises ValueError with the rule.
    """
    rule = "send a time in ISO 8601, such as 2026-01-31T09:00:00Z, or seconds since the epoch"
    told = str(text)
    try:
        seconds = float(told)
    except ValueError:
        seconds = _of_calendar(told, rule)
    if not 0 <= seconds < END_OF_TIME_S:
        raise ValueError(rule)
    return seconds


def _of_calendar(told: str, rule: str) -> float:
    spelt = told.replace(" ", "+") if "T" in told else told  # a plus in a URL is read as a blank
    try:
        at = datetime.fromisoformat(spelt)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(rule) from error
