"""One adapter's stay in the engine, as residency keeps track of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from adapters.types import Version
from core.errors import AttuneError, Unavailable


@dataclass(slots=True)
class Stay:
    """From the moment its load begins until it is freed."""

    name: str
    version: Version
    references: int = 0
    asked: int = 0  # leases in this stay
    stall_s: float = 0.0  # what the engine took to load it
    retired: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    error: AttuneError | None = None


class NoRoom(Unavailable):
    """Every place is taken by a running answer."""


def unavailable(name: str, error: Exception) -> Unavailable:
    """The version exists; whatever keeps it from the engine is this server's trouble."""
    if isinstance(error, Unavailable):
        return error
    reason = error.message if isinstance(error, AttuneError) else type(error).__name__
    return Unavailable(f"Adapter '{name.rpartition('/')[2]}' cannot be loaded now: {reason}")
