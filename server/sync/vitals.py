"""What this server sees of the database and the trainers, looked at anew every few seconds.

Whoever asks is told what was seen last: asking costs nothing, so it may be open to all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from core.clock import now_s
from core.work.workers import FRESH_S, Worker
from server import metrics

logger = logging.getLogger("attune.server")

_STARTING_S = 60.0  # a trainer that starts beside the server loads its libraries first

Status = Literal["ok", "starting", "in trouble", "not seen", "unknown"]


@dataclass(frozen=True, slots=True)
class TrainerSeen:
    """How the trainers are, all together: one that works is enough."""

    status: Status
    seen_s_ago: float | None  # the last good look of any
    message: str | None  # what to do about it


class Vitals:
    """`look`: reads the workers; it runs in a thread of this object's own."""

    def __init__(self, look: Callable[[], Sequence[Worker]], *, interval_s: float = 2.0) -> None:
        self._look = look
        self._interval_s = interval_s
        self._began_s = now_s()
        self._answered = time.monotonic()
        self._workers: Sequence[Worker] = ()
        self._reachable = True

    @property
    def database_ok(self) -> bool:
        """Whether the database answers: not if a look failed, or has been hanging for a while."""
        return self._reachable and time.monotonic() - self._answered < self._interval_s + 10.0

    @property
    def trainer(self) -> TrainerSeen:
        """Unknown while the database does not answer."""
        if not self.database_ok:
            return TrainerSeen("unknown", None, None)
        return judged(self._workers, now_s(), began_s=self._began_s)

    async def follow(self) -> None:
        """Look for ever."""
        own = ThreadPoolExecutor(1, "attune-vitals")
        try:
            while True:
                try:
                    loop = asyncio.get_running_loop()
                    self._workers = await loop.run_in_executor(own, self._look)
                    self._reachable, self._answered = True, time.monotonic()
                except Exception:
                    if self._reachable:
                        logger.exception("The database does not answer.")
                    self._reachable = False
                if (seen_s_ago := self.trainer.seen_s_ago) is not None:
                    metrics.TRAINER_LAST_SEEN_SECONDS.set(seen_s_ago)
                await asyncio.sleep(self._interval_s)
        finally:
            own.shutdown(wait=False)  # a look that hangs holds nobody up


def judged(workers: Sequence[Worker], now: float, *, began_s: float) -> TrainerSeen:
    """What the rows, latest first, say at `now`, to a server that began at `began_s`."""
    looks = [worker.looked_at_s for worker in workers if worker.looked_at_s is not None]
    seen_s_ago = max(0.0, now - max(looks)) if looks else None
    for worker in workers:
        fresh = worker.looked_at_s is not None and now - worker.looked_at_s < FRESH_S
        if fresh and worker.trouble is None:
            return TrainerSeen("ok", seen_s_ago, None)
    if trouble := next((worker.trouble for worker in workers if worker.trouble), None):
        return TrainerSeen("in trouble", seen_s_ago, trouble)
    if now - began_s < _STARTING_S:
        return TrainerSeen("starting", seen_s_ago, None)
    since = "yet" if seen_s_ago is None else f"for {_spoken(seen_s_ago)}"
    return TrainerSeen(
        "not seen",
        seen_s_ago,
        f"No trainer has been seen {since}: nothing is learnt or exported. Start `attune trainer`, "
        "or `attune serve` without --no-trainer.",
    )


def _spoken(duration_s: float) -> str:
    for size_s, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if duration_s >= size_s:
            return f"{duration_s / size_s:.0f} {name}"
    return f"{duration_s:.0f} s"
