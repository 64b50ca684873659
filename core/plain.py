"""Plain lines for people, which no terminal obeys: where there is no console to print by."""

from __future__ import annotations

import sys

from core.shown import shown


def say(text: object, *, end: str = "\n", error: bool = False) -> None:
    """Print text for people, whoever wrote it; with `error` on stderr."""
    print(shown(f"{text}", lines=True), end=end, file=sys.stderr if error else None, flush=True)
