"""The spellings of a thumb: one vocabulary for every way feedback comes in."""

from __future__ import annotations

_UP = frozenset({"up", "thumbs_up", "good", "like"})
_DOWN = frozenset({"down", "thumbs_down", "bad", "dislike"})


def thumb_of(value: bool | float | str) -> bool | None:
    """Up or down; None for what is no thumb. Numbers: 1 is up, 0 and -1 are down."""
    if value == 1 or value in _UP:  # True is 1
        return True
    if value in (0, -1) or value in _DOWN:
        return False
    return None
