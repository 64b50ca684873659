"""Makes answers durable: what has ended meanwhile is committed together.

The event loop does no database I/O: an answer's end awaits the commit that carries it, and
everything else goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from core.database_trouble import DATABASE_UNAVAILABLE
from core.errors import AttuneError, Unavailable
from core.group_commit import GroupCommit
from feedback.types import Interaction
from server import metrics

logger = logging.getLogger("attune.recorder")

Build = Callable[[], Interaction]

_REFUSED = "The answer could not be stored, so it is withheld. The server's log says why."
_LATE = (
    "The answer could not be stored durably, so it is withheld. The database is unreachable; try "
    "again."
)


@dataclass(slots=True)
class _Answer:
    build: Build
    ended: float = field(default_factory=time.perf_counter)
    built: Interaction | Unavailable | None = None

    def read(self) -> Interaction | Unavailable:
        if self.built is None:
            try:
                self.built = self.build()
            except Exception:
                logger.exception("An answer could not be read.")
                self.built = Unavailable(_REFUSED)
        return self.built


class Recorder:
    """Commits interactions in groups through `append`, which must be idempotent by id.

    Every `build` runs in the recorder's thread. `give_up_s`: how long after its end an answer may
    become durable, the time in the queue and that of a commit under way included.
    """

    def __init__(
        self,
        append: Callable[[Sequence[Interaction]], None],
        *,
        wait_s: float = 0.0,
        give_up_s: float = 10.0,
    ) -> None:
        self._append = append
        self._group = GroupCommit(
            "attune-recorder",
            self._store,
            patience_s=give_up_s,
            gather_s=wait_s,
            retry=True,
            settled=_count,
        )

    async def commit(self, build: Build) -> None:
        """Return once the interaction is durable. Raises Unavailable if it is not so in time.

        A commit that was under way when the time was up may keep it all the same.
        """
        committed = self._put(build)
        try:
            async with asyncio.timeout(self._group.patience_s):
                await asyncio.wrap_future(committed)
        except AttuneError as error:
            refused = error.message == _REFUSED
            raise (Unavailable(_REFUSED) if refused else _late()) from error
        except TimeoutError as error:
            raise _late() from error
        except Exception as error:
            raise Unavailable(_REFUSED) from error

    def submit(self, build: Build) -> None:
        """Commit soon, without anybody waiting (a client that has gone away)."""
        try:
            self._put(build)
        except Unavailable:
            logger.warning("An answer cut off while shutting down is not recorded.")

    def close(self) -> None:
        """Commit everything submitted so far, then stop; later commits are refused."""
        self._group.close()

    def _put(self, build: Build) -> Future[Interaction]:
        committed = self._group.put(_Answer(build))
        metrics.COMMIT_WAITING.inc()
        return committed

    def _store(self, answers: Sequence[_Answer]) -> Sequence[Interaction | AttuneError]:
        read = [answer.read() for answer in answers]
        self._append([answer for answer in read if isinstance(answer, Interaction)])
        return read


def _late() -> Unavailable:
    return Unavailable(_LATE, code=DATABASE_UNAVAILABLE)


def _count(settled: Sequence[tuple[_Answer, Interaction | Exception]]) -> None:
    now = time.perf_counter()
    for answer, outcome in settled:
        metrics.COMMIT_WAITING.dec()
        metrics.COMMIT_SECONDS.observe(now - answer.ended)
        if isinstance(outcome, Interaction):
            metrics.count_answer(outcome)
