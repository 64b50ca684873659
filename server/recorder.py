"""Makes answers durable: one thread gathers finished answers into group commits.

The event loop never waits for the database but at an answer's end, and then only for the
commit that carries it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import Unavailable
from feedback.types import Interaction
from server import metrics

logger = logging.getLogger("attune.recorder")

Build = Callable[[], Interaction]


@dataclass(frozen=True, slots=True)
class _Item:
    build: Build
    at: float
    done: Callable[[BaseException | None], None] | None


class Recorder:
    """Commits interactions in batches through `append`, which must be idempotent by id."""

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
        self._thread = threading.Thread(target=self._run, name="attune-recorder", daemon=True)
        self._thread.start()

    async def commit(self, build: Build) -> None:
        """Return once the interaction is durable. Raises Unavailable if it cannot be made so.

        `build` runs in the recorder's thread.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def done(error: BaseException | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        def from_thread(error: BaseException | None) -> None:
            loop.call_soon_threadsafe(done, error)

        self._put(_Item(build, time.perf_counter(), from_thread))
        await future

    def submit(self, build: Build) -> None:
        """Commit soon, without anybody waiting (a client that has gone away)."""
        self._put(_Item(build, time.perf_counter(), None))

    def close(self) -> None:
        """Commit everything submitted so far, then stop."""
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _put(self, item: _Item) -> None:
        metrics.COMMIT_WAITING.inc()
        self._queue.put(item)

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
            except Exception as error:
                logger.exception("An answer could not be recorded.")
                self._finish(item, error)
        failure = self._append_with_patience([interaction for _, interaction in ready])
        for item, interaction in ready:
            if failure is None:
                metrics.ANSWERS.labels(interaction.tenant_id, interaction.outcome).inc()
            self._finish(item, failure)

    def _append_with_patience(self, interactions: list[Interaction]) -> Unavailable | None:
        deadline = time.monotonic() + self._give_up_s
        delay_s = 0.05
        while True:
            try:
                self._append(interactions)
                return None
            except Exception:
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
