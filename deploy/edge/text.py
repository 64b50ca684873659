"""Stop strings in a stream of text. Pure."""

from __future__ import annotations


class StopScan:
    """Passes text on until a stop string appears; holds back what may be the start of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of what came so far that is sure to belong to the answer."""
        if self.stopped:
            return ""
        self._held += text
        at = min(
            (where for stop in self._stops if (where := self._held.find(stop)) >= 0), default=-1
        )
        if at >= 0:
            self.stopped = True
            return self._take(at)
        return self._take(len(self._held) - self._unsure())

    def flush(self) -> str:
        """The rest, once no more text will come; empty after a stop."""
        return "" if self.stopped else self._take(len(self._held))

    def _take(self, count: int) -> str:
        out, self._held = self._held[:count], self._held[count:]
        return out

    def _unsure(self) -> int:
        """Length of the longest end of the held text that begins some stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
