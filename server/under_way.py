"""The requests that are under way, and how they end when the server does.

Knows no HTTP: the door counts requests in and out, whoever stops the server closes it and waits.
"""

from __future__ import annotations

import asyncio

from core.errors import ShuttingDown


class Stay:
    """One request under way, in the task that carries it."""

    __slots__ = ("_cut_off", "_task", "spared")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self._cut_off = False
        self.spared = False
        """Set where only its commit is left: it is not cut off any more."""

    def cut_off(self) -> None:
        """Cancel it, because the server's time is up."""
        if not self.spared and not self._cut_off:
            self._cut_off = True
            self._task.cancel()

    def why_cancelled(self) -> ShuttingDown | None:
        """What to tell its client if it was cut off; None if somebody else has cancelled it."""
        if self._task.cancelling() == 0 or not self._cut_off:
            return None
        self._task.uncancel()
        return shutting_down()


class UnderWay:
    """All of them. `closed` is for reading: new ones are refused from then on."""

    def __init__(self) -> None:
        self.closed = False
        self._stays: set[Stay] = set()
        self._empty = asyncio.Event()

    def enter(self) -> Stay:
        """Count the current task's request in. Raises ShuttingDown once `close` was called."""
        task = asyncio.current_task()
        assert task is not None
        if self.closed:
            raise shutting_down()
        stay = Stay(task)
        self._stays.add(stay)
        return stay

    def leave(self, stay: Stay) -> None:
        """Count it out."""
        self._stays.discard(stay)
        if self.closed and not self._stays:
            self._empty.set()

    def close(self) -> None:
        """Let in no more."""
        self.closed = True
        if not self._stays:
            self._empty.set()

    async def empty(self) -> None:
        """Return once it is closed and the last one has left."""
        await self._empty.wait()

    def cut_off(self) -> int:
        """Cancel whatever is still under way; how many that was."""
        for stay in self._stays:
            stay.cut_off()
        return len(self._stays)


def shutting_down() -> ShuttingDown:
    """What a client is told."""
    return ShuttingDown(
        "The server is shutting down. Send the request again: another server, or this one once it "
        "has started again, will answer."
    )
