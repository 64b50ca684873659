"""A path of our own as the door needs to know it: said by server.routes, read by server.door."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from core.settings import Settings


def usual_limit(settings: Settings) -> int:
    """The most bytes of a body where a route says nothing else."""
    return settings.max_body_bytes


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """One path: its template, what matches it, and what the door allows there."""

    path: str
    form: re.Pattern[str]
    max_bytes: Callable[[Settings], int] = usual_limit
    takes_basic: bool = False
    """The key may come as the password of Basic authentication."""
