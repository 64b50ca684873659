"""Makes answers durable: one thread gathers finished answers into group commits.

The event loop does no database I/O: an answer's end awaits the commit that carries it, and
everything else goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core.errors import Unavailable
from feedback.types import Interaction
from server import metrics

logger = logging.getLogger("attune.recorder")

Build = Callable[[], Interaction]

_PASSING = (OperationalError, InterfaceError, PoolTimeout, OSError)
"""What a database says when it is away or busy; anything else it would say again."""

_REFUSED = "The answer could not be stored, so it is withheld. The server's log says why."


@dataclass(frozen=True, slots=True)
class _Item:
    build: Build
    ended: float  # when its answer did, by the performance counter
    committed: Future[None]


class Recorder:
    """Commits interactions in batches through `append`, which must be idempotent by id.

    Every `build` runs in the recorder's thread.
    """

    def __init__(
        self,
        append: Callable[[Sequence[Interaction]], None],
        *,
        wait_s: float = 0.0,
        give_up_s: float = 10.0,
    ) -> None:
        self._append = append
        self._wait_s = wait_s
        self._give_up_s = give_up_s
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="attune-recorder", daemon=True)
        self._thread.start()

    async def commit(self, build: Build) -> None:
        """Return once the interaction is durable. Raises Unavailable if it cannot be made so."""
        await asyncio.wrap_future(self._put(build))

    def submit(self, build: Build) -> None:
        """Commit soon, without anybody waiting (a client that has gone away)."""
        try:
            self._put(build)
        except Unavailable:
            logger.warning("An answer cut off while shutting down is not recorded.")

    def close(self) -> None:
        """Commit everything submitted so far, then stop; later commits are refused."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        self._thread.join(timeout=30)

    def _put(self, build: Build) -> Future[None]:
        committed: Future[None] = Future()
        committed.set_running_or_notify_cancel()  # who stops waiting cancels nothing here
        with self._lock:  # nothing may be queued behind the mark that ends the thread
            if self._closed:
                raise Unavailable("The server is shutting down; try again.")
            metrics.COMMIT_WAITING.inc()
            self._queue.put(_Item(build, time.perf_counter(), committed))
        return committed

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            if self._wait_s > 0:
                time.sleep(self._wait_s)
            while not self._queue.empty():
                batch.append(self._queue.get())
            closing = None in batch
            self._commit([item for item in batch if item is not None])

    def _commit(self, batch: list[_Item]) -> None:
        ready: list[tuple[_Item, Interaction]] = []
        for item in batch:
            try:
                ready.append((item, item.build()))
            except Exception:
                logger.exception("An answer could not be read.")
                self._finish(item, Unavailable(_REFUSED))
        self._store(ready)

    def _store(self, ready: list[tuple[_Item, Interaction]]) -> None:
        try:
            failure = self._append_with_patience([interaction for _, interaction in ready])
        except Exception:
            logger.exception("Committing %d answers failed for good.", len(ready))
            if len(ready) > 1:
                # One of them is to blame: the others must not pay for it.
                for one in ready:
                    self._store([one])
                return
            failure = Unavailable(_REFUSED)
        for item, interaction in ready:
            self._finish(item, failure)  # who waits goes on before the answer is counted
            if failure is None:
                metrics.count_answer(interaction)

    def _append_with_patience(self, interactions: list[Interaction]) -> Unavailable | None:
        """Raises what is not a matter of time."""
        deadline = time.monotonic() + self._give_up_s
        delay_s = 0.05
        while True:
            try:
                self._append(interactions)
                return None
            except _PASSING:
                logger.exception("Committing %d answers failed.", len(interactions))
                if time.monotonic() + delay_s > deadline:
                    return Unavailable(
                        "The answer could not be stored durably, so it is withheld. The "
                        "database is unreachable; try again."
                    )
                time.sleep(delay_s)
                delay_s = min(1.0, delay_s * 2)

    def _finish(self, item: _Item, error: Unavailable | None) -> None:
        metrics.COMMIT_WAITING.dec()
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - item.ended)
        if error is None:
            item.committed.set_result(None)
        else:
            item.committed.set_exception(error)
