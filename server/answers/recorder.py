"""Makes answers durable: one thread gathers finished answers into group commits.

The event loop never waits for the database but at an answer's end, and then only for the
commit that carries it. An answer that is alone is committed by the loop itself where that is a
matter of the disk's flush: waking a thread and being woken by it would take half as long again.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
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


_QUICK_S = 0.003  # a disk slower than this is not waited for in the event loop


@dataclass(frozen=True, slots=True)
class _Item:
    build: Build
    at: float
    done: Callable[[BaseException | None], None] | None


class Recorder:
    """Commits interactions in batches through `append`, which must be idempotent by id.

    `append_at_once` commits one from the event loop; False if it cannot without waiting for
    others. None where it never can: nothing is built there in vain.
    """

    def __init__(
        self,
        append: Callable[[Sequence[Interaction]], None],
        *,
        append_at_once: Callable[[Interaction], bool] | None = None,
        wait_s: float = 0.0,
        give_up_s: float = 10.0,
    ) -> None:
        self._append = append
        self._append_at_once = append_at_once
        self._last_s = 0.0  # what the last commit took
        self._wait_s = wait_s
        self._give_up_s = give_up_s
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="attune-recorder", daemon=True)
        self._thread.start()

    async def commit(self, build: Build, *, alone: bool = False) -> None:
        """Return once the interaction is durable. Raises Unavailable if it cannot be made so.

        `build` runs in the recorder's thread, or in the loop if nobody else is being answered
        (`alone`), who would have to wait meanwhile.
        """
        if alone and self._append_at_once and self._committed_at_once(build, self._append_at_once):
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def done(error: BaseException | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        def from_thread(error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(done, error)
            except RuntimeError:
                logger.warning("Nobody waits for an answer's commit any more.")

        if not self._put(_Item(build, time.perf_counter(), from_thread)):
            raise Unavailable("The server is shutting down; try again.")
        await future

    def _committed_at_once(self, build: Build, append: Callable[[Interaction], bool]) -> bool:
        if self._closed or self._last_s > _QUICK_S or not self._queue.empty():
            return False
        started = time.perf_counter()
        try:
            interaction = build()
        except Exception:
            return False  # the thread says what is wrong with it
        if not append(interaction):
            return False
        self._last_s = time.perf_counter() - started
        # The answer is on its way before it is counted.
        loop = asyncio.get_running_loop()
        loop.call_soon(metrics.count_answer, interaction)
        loop.call_soon(metrics.COMMIT_SECONDS.observe, self._last_s)
        return True

    def submit(self, build: Build) -> None:
        """Commit soon, without anybody waiting (a client that has gone away)."""
        if not self._put(_Item(build, time.perf_counter(), None)):
            logger.warning("An answer cut off while shutting down is not recorded.")

    def close(self) -> None:
        """Commit everything submitted so far, then stop; later commits are refused."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        self._thread.join(timeout=30)

    def _put(self, item: _Item) -> bool:
        with self._lock:  # nothing may be queued behind the mark that ends the thread
            if self._closed:
                return False
            metrics.COMMIT_WAITING.inc()
            self._queue.put(item)
            return True

    def _run(self) -> None:
        closing = False
        while not closing:
            batch: list[_Item] = []
            item = self._queue.get()
            if item is not None and self._wait_s > 0:
                time.sleep(self._wait_s)
            while True:
                if item is None:
                    closing = True
                else:
                    batch.append(item)
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Item]) -> None:
        ready: list[tuple[_Item, Interaction]] = []
        for item in batch:
            try:
                ready.append((item, item.build()))
            except Exception:
                logger.exception("An answer could not be read.")
                self._finish(item, _refused())
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
            failure = _refused()
        for item, interaction in ready:
            if failure is None:
                metrics.count_answer(interaction)
            self._finish(item, failure)

    def _append_with_patience(self, interactions: list[Interaction]) -> Unavailable | None:
        """Raises what is not a matter of time."""
        deadline = time.monotonic() + self._give_up_s
        delay_s = 0.05
        while True:
            try:
                started = time.perf_counter()
                self._append(interactions)
                self._last_s = time.perf_counter() - started
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

    def _finish(self, item: _Item, error: BaseException | None) -> None:
        metrics.COMMIT_WAITING.dec()
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - item.at)
        if item.done is not None:
            item.done(error)


def _refused() -> Unavailable:
    return Unavailable(
        "The answer could not be stored, so it is withheld. The server's log says why."
    )
