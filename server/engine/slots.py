"""Who may use one of the engine's adapter slots, so that no adapter starves.

The engine runs at most `max_loras` distinct adapters in a step; a request for one more is passed
over for as long as the others keep theirs, and busy adapters keep theirs for ever. So no more are
let into the engine than it has slots, and who waits for one is older than who comes later. Pure
but for the futures; knows neither engine nor weights.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from core.errors import Unavailable

_Waiter = tuple[float, asyncio.Future[None]]


class Slots:
    """`slots` distinct adapters at once, any number of requests for each.

    A request for an adapter that has a slot joins it, however many others wait. Once somebody has
    waited for `patience_s`, one adapter drains for them: its new requests wait too, until its last
    answer has ended and the oldest waiter takes the slot. The one with the fewest answers under
    way drains, as it is likely to be free first; for each further `patience_s` waited one more
    does, so that a single long answer holds nobody up. There are no timers: who drains is decided
    when a request comes.
    """

    def __init__(
        self,
        slots: int,
        *,
        patience_s: float,
        timeout_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._running: dict[int, int] = {}  # adapter: answers under way; longest held first
        self._waiting: dict[int, list[_Waiter]] = {}  # by adapter, oldest waiter first
        self._draining: dict[int, None] = {}

    def take(self, adapter: int) -> bool:
        """Enter now if nobody is wronged by it; otherwise False, and `wait` is for you."""
        under_way = self._running.get(adapter, 0)
        if self._waiting:
            if not under_way or adapter in self._drain():
                return False
        elif not under_way and len(self._running) >= self._slots:
            return False
        self._running[adapter] = under_way + 1
        return True

    async def wait(self, adapter: int) -> None:
        """Enter in one's turn. Raises Unavailable after `timeout_s`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(adapter, []).append((self._clock(), future))
        try:
            async with asyncio.timeout(self._timeout_s):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self.leave(adapter)  # let in at the very moment of giving up
            else:
                self._forget(adapter, future)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"All {self._slots} adapter slots of the engine were busy for "
                    f"{self._timeout_s:.0f} s. Try again shortly, or raise ATTUNE_MAX_LORAS."
                ) from error
            raise

    def leave(self, adapter: int) -> None:
        """One answer of the adapter has ended."""
        left = self._running[adapter] - 1
        if left:
            self._running[adapter] = left
            return
        del self._running[adapter]
        if self._waiting:
            self._let_in()

    @property
    def running(self) -> dict[int, int]:
        """Answers under way by adapter: a copy."""
        return dict(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(len(line) for line in self._waiting.values())

    def _let_in(self) -> None:
        while len(self._running) < self._slots:
            adapter = next(self._without_slot(), None)
            if adapter is None:
                break
            self._admit(adapter)
        draining = self._drain()
        for adapter in [a for a in self._waiting if a in self._running and a not in draining]:
            self._admit(adapter)

    def _admit(self, adapter: int) -> None:
        # Who gave up a moment ago may still be in the line.
        line = [future for _, future in self._waiting.pop(adapter) if not future.done()]
        if line:
            self._running[adapter] = self._running.get(adapter, 0) + len(line)
        for future in line:
            future.set_result(None)

    def _without_slot(self) -> Iterator[int]:
        return (adapter for adapter in self._waiting if adapter not in self._running)

    def _drain(self) -> dict[int, None]:
        """Who drains now: as many as the waiters may claim, the same ones as long as possible."""
        claims = self._claims()
        draining = [adapter for adapter in self._draining if adapter in self._running][:claims]
        if len(draining) < claims:
            others = [adapter for adapter in self._running if adapter not in draining]
            others.sort(key=self._running.__getitem__)  # stable: the longest held of equals
            draining += others[: claims - len(draining)]
        self._draining = dict.fromkeys(draining)
        return self._draining

    def _claims(self) -> int:
        now, claims = self._clock(), 0
        for adapter in self._without_slot():
            patiences = int((now - self._waiting[adapter][0][0]) / self._patience_s)
            claims += patiences
            if patiences == 0 or claims >= self._slots:
                break  # those behind came later
        return min(claims, self._slots)

    def _forget(self, adapter: int, future: asyncio.Future[None]) -> None:
        line = [waiter for waiter in self._waiting.pop(adapter, []) if waiter[1] is not future]
        if line:
            self._waiting[adapter] = line
            self._waiting = dict(sorted(self._waiting.items(), key=lambda item: item[1][0][0]))
        self._let_in()
