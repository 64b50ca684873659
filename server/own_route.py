"""A path of our own as the door needs to know it: said by server.routes, read by server.door."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.settings import Settings


@dataclass(frozen=True, slots=True)
class OwnRoute:
    """One path: its template, what matches it, its methods, and what the door allows there."""

    path: str
    form: re.Pattern[str]
    methods: frozenset[str]
    takes_files: bool = False
    max_bytes: int = 0  # of a body, where that is more than the server's own limit
    takes_basic: bool = False  # the key may come as the password of Basic authentication

    def limit_bytes(self, settings: Settings) -> int:
        """The largest body."""
        usual = settings.max_upload_bytes if self.takes_files else settings.max_body_bytes
        return max(usual, self.max_bytes)
