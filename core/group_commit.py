"""Group commits: one thread gathers what many want stored, and stores it in one transaction.

A commit costs a wait for the disk, however much it holds. Owns whose turn it is, how long
anybody waits, and that each learns what became of its own. Knows nothing of what is stored.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.database_trouble import DATABASE_UNAVAILABLE
from core.errors import AttuneError, Unavailable

Item = TypeVar("Item")
Done = TypeVar("Done")

logger = logging.getLogger("attune.commits")

_PASSING = (Unavailable, OSError)
"""What a database says when it is away or busy; anything else it would say again."""


@dataclass(eq=False, frozen=True, slots=True)
class _Waiting(Generic[Item, Done]):
    item: Item
    until: float  # by the monotonic clock
    done: Future[Done]


class GroupCommit(Generic[Item, Done]):
    """Hands items to `commit` in groups of at most `most`, all of it in one thread.

    `commit` returns once all are durable, with one outcome for each in their order: what it
    yields, or an AttuneError that refuses this one alone. What it raises fails the group, which is
    then tried one by one, but for trouble that passes: that is tried again with `retry`, and told
    to all without. Nothing is tried for longer than `patience_s` after it was put. `settled` is
    called, in the thread, with each item and its outcome when those who wait have been told.
    """

    def __init__(
        self,
        name: str,
        commit: Callable[[Sequence[Item]], Sequence[Done | AttuneError]],
        *,
        patience_s: float,
        most: int = 256,
        gather_s: float = 0.0,
        retry: bool = False,
        settled: Callable[[Sequence[tuple[Item, Done | Exception]]], None] = lambda _: None,
    ) -> None:
        self.patience_s = patience_s
        self._commit = commit
        self._most = most
        self._gather_s = gather_s
        self._retry = retry
        self._settled = settled
        self._turns: dict[Hashable, deque[_Waiting[Item, Done]]] = {}
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item, *, turn: Hashable = None) -> Future[Done]:
        """Queue an item; the future tells what became of it, an error if nothing.

        Whoever has a `turn` of their own waits behind one item of each other, not behind all.
        Raises Unavailable after `close`.
        """
        done: Future[Done] = Future()
        done.set_running_or_notify_cancel()  # who stops waiting cancels nothing here
        with self._news:
            if self._closed:
                raise Unavailable("The server is shutting down; try again.")
            waiting = _Waiting(item, time.monotonic() + self.patience_s, done)
            self._turns.setdefault(turn, deque()).append(waiting)
            self._news.notify()
        return done

    def close(self) -> None:
        """Commit what was put so far, then stop."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while group := self._next():
            self._store(group)

    def _next(self) -> list[_Waiting[Item, Done]]:
        """The next group, one of each turn after another; empty when there will be none."""
        with self._news:
            self._news.wait_for(lambda: self._turns or self._closed)
        if self._gather_s > 0:
            time.sleep(self._gather_s)
        group: list[_Waiting[Item, Done]] = []
        with self._news:
            while self._turns and len(group) < self._most:
                turn = next(iter(self._turns))
                queue = self._turns.pop(turn)
                group.append(queue.popleft())
                if queue:
                    self._turns[turn] = queue
        return group

    def _store(self, group: list[_Waiting[Item, Done]]) -> None:
        delay_s = 0.05
        while group := self._in_time(group):
            try:
                outcomes: Sequence[Done | Exception] = self._commit([one.item for one in group])
            except _PASSING as error:
                logger.warning("%d wait for the database: %r", len(group), error)
                if self._retry:
                    time.sleep(delay_s)
                    delay_s = min(1.0, delay_s * 2)
                    continue
                outcomes = [error] * len(group)
            except Exception as error:
                logger.exception("A commit of %d failed for good.", len(group))
                if len(group) > 1:
                    # One of them is to blame: the others must not pay for it.
                    for one in group:
                        self._store([one])
                    return
                outcomes = [error]
            self._tell(group, outcomes)
            return

    def _in_time(self, group: list[_Waiting[Item, Done]]) -> list[_Waiting[Item, Done]]:
        now = time.monotonic()
        late = [one for one in group if one.until <= now]
        told = Unavailable("It could not be stored in time; try again.", code=DATABASE_UNAVAILABLE)
        self._tell(late, [told] * len(late))
        return [one for one in group if one.until > now]

    def _tell(
        self, group: Sequence[_Waiting[Item, Done]], outcomes: Sequence[Done | Exception]
    ) -> None:
        for one, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                one.done.set_exception(outcome)
            else:
                one.done.set_result(outcome)
        self._settled([(one.item, what) for one, what in zip(group, outcomes, strict=True)])
