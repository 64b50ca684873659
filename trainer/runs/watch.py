"""Finds the adapters that are due for training and opens their runs; starts nothing itself.

Owns how often an adapter is looked at, and what is remembered of it in between. The rule is
`trainer.runs.due`.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from adapters.registry import Registry
from adapters.types import Adapter, Learning
from core.clock import now_s
from core.database import Database
from core.ids import AdapterId
from core.text import fit
from core.work.ledger import Ledger
from core.work.types import Work
from core.work.watermarks import Watermarks
from feedback.learning.judgement import Reader
from feedback.learning.pairing import Agreed
from feedback.learning.reading import Reading
from feedback.learning.recorded import Encode, anything_fits
from feedback.learning.texts import Texts
from feedback.store import FeedbackStore
from trainer.runs.due import due, known, left_out
from trainer.types import RUN, RunFacts

logger = logging.getLogger("attune.trainer")

_AGE_CHECK_S = 1.0
_REST = 19.0
"""Looks at one adapter take a twentieth of the time at most."""

_Asked = tuple[int, int, Learning]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an adapter was last looked at with, and when the same may be answered otherwise."""

    asked: _Asked
    again_at_s: float
    rests_until_s: float  # of the monotonic clock


class Watch:
    """Looks at what feedback is new. Cheap to call often: when nothing was said, two queries.

    `max_items` are looked at of each adapter, and remembered of all together where one alone has
    fewer. An adapter rests `rest` times as long as a look at it took.
    """

    def __init__(
        self,
        database: Database,
        encode: Encode = anything_fits,
        *,
        max_items: int = 100_000,
        max_length: int = 512,
        rest: float = _REST,
    ) -> None:
        self._database = database
        self._registry = Registry(database)
        self._feedback = FeedbackStore(database)
        self._runs = Ledger(database, RUN)
        self._marks = Watermarks(database)
        self._encode, self._max_items, self._max_length = encode, max_items, max_length
        self._rest = rest
        self._readings: OrderedDict[AdapterId, Reading] = OrderedDict()
        self._seen: dict[AdapterId, _Seen] = {}
        self._last_look = (-1, -1)
        self._looked_at_s = 0.0

    def open_due_runs(self) -> None:
        """Open a run for every adapter that is due and has none under way."""
        look = (self._feedback.last_seq(), self._database.last_change())
        unchanged = look == self._last_look
        if unchanged and time.monotonic() - self._looked_at_s < _AGE_CHECK_S:
            return
        self._last_look, self._looked_at_s = look, time.monotonic()
        adapters = {a.id: a for a in self._registry.adapters() if a.learning.enabled}
        marks = self._marks.of(adapters)
        newest = {i: seen.asked[0] for i, seen in self._seen.items() if i in adapters}
        known = {i: max(mark, newest.get(i, 0)) for i, mark in marks.items()}
        newest |= self._feedback.news_of(known)
        busy = {run.adapter_id for run in self._runs.active()}
        for adapter_id, seq in newest.items():
            if seq > marks[adapter_id] and adapter_id not in busy:
                self._consider(adapters[adapter_id], seq, marks[adapter_id])
        self._forget({i for i, seq in newest.items() if seq > marks[i]})

    def _consider(self, adapter: Adapter, newest: int, mark: int) -> None:
        asked = (newest, mark, adapter.learning)
        seen = self._seen.get(adapter.id)
        if seen is not None:
            answered = seen.asked == asked and now_s() < seen.again_at_s
            if answered or time.monotonic() < seen.rests_until_s:
                return
        began_s = time.monotonic()
        again_at_s = self._look(adapter, mark)
        ended_s = time.monotonic()
        # Last: what failed half-way is tried again.
        self._seen[adapter.id] = _Seen(
            asked, again_at_s, ended_s + self._rest * (ended_s - began_s)
        )

    def _look(self, adapter: Adapter, mark: int) -> float:
        """Open a run if the adapter is due; when else, at the earliest, it may be by waiting."""
        learning = adapter.learning
        reading = self._reading(adapter)
        reading.refresh()
        agreed, new = reading.agreed(adapter), reading.since(mark)
        found = known(agreed, learning.method, new)
        oldest_at_s = now_s() if found.oldest_at_s is None else found.oldest_at_s
        counts = (found.labels_up, found.labels_down, found.pairs, found.new_items)
        reason = due(learning, *counts, now_s() - oldest_at_s)
        if reason is not None:
            open_run(self._runs, adapter, reason, reading.last_seq, found.newest_at_s)
            logger.info("Run opened for '%s': %s", adapter.name, reason)
        else:
            self._tell(adapter, agreed, len(new) - found.new_items)
        return oldest_at_s + learning.max_age_s if found.new_items else float("inf")

    def _tell(self, adapter: Adapter, agreed: Agreed, idle: int) -> None:
        """Say why feedback that came starts no run, where it is not for others still to come."""
        if idle >= max(1, adapter.learning.new_items):
            logger.info(
                "%d new feedback items of '%s' teach nothing new, so they start no run. Left out "
                "of all it was told: %s.",
                idle,
                adapter.name,
                left_out(agreed.dropped, self._max_length),
            )

    def _reading(self, adapter: Adapter) -> Reading:
        reading = self._readings.pop(adapter.id, None)
        if reading is None:
            reader = Reader(adapter.id, Texts(keep=False), self._encode)
            reading = Reading(self._feedback, adapter.id, reader, newest=self._max_items)
        self._readings[adapter.id] = reading  # the last one is the one looked at last
        return reading

    def _forget(self, spoken_of: set[AdapterId]) -> None:
        """Drop what is known of adapters that are gone, and of those not looked at for long."""
        self._seen = {i: seen for i, seen in self._seen.items() if i in spoken_of}
        held = sum(map(len, self._readings.values()))
        while held > self._max_items and len(self._readings) > 1:
            held -= len(self._readings.popitem(last=False)[1])


def open_run(
    runs: Ledger[RunFacts],
    adapter: Adapter,
    trigger: str,
    last_feedback_seq: int,
    last_feedback_at_s: float | None,
) -> tuple[Work[RunFacts], bool]:
    """Queue a run and say that it is new, or yield the one of the adapter that is under way."""
    facts = RunFacts(fit(trigger, 64), last_feedback_seq, last_feedback_at_s, adapter.live_version)
    return runs.open(adapter.tenant_id, adapter.id, facts, adapter_id=adapter.id)
