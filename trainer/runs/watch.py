"""Finds the adapters that are due for training and opens their runs; starts nothing itself.

`due` is the rule: pure, on counts.
"""

from __future__ import annotations

import logging
import time

from adapters.registry import Registry
from adapters.types import Adapter, Learning
from core.clock import now_s
from core.database import Database
from core.ids import AdapterId
from core.text import fit
from core.work.ledger import Ledger
from core.work.types import Work
from core.work.watermarks import Watermarks
from feedback.learning.reading import read_feedback
from feedback.store import FeedbackStore
from feedback.types import News
from trainer.types import RUN, RunFacts

logger = logging.getLogger("attune.trainer")

_AGE_CHECK_S = 1.0

_Considered = tuple[int, int, bool, Learning]


class Watch:
    """Looks at what feedback is new. Cheap to call often: when nothing was said, two queries."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._registry = Registry(database)
        self._feedback = FeedbackStore(database)
        self._runs = Ledger(database, RUN)
        self._marks = Watermarks(database)
        self._considered: dict[AdapterId, _Considered] = {}
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
        marks = self._marks.all()
        news = self._feedback.news({i: marks.get(i, 0) for i in adapters})
        busy = {run.adapter_id for run in self._runs.active()}
        self._considered = {i: seen for i, seen in self._considered.items() if i in news}
        for adapter_id, fresh in news.items():
            if adapter_id not in busy:
                self._consider(adapters[adapter_id], fresh)

    def _consider(self, adapter: Adapter, news: News) -> None:
        learning = adapter.learning
        age_s = now_s() - news.oldest_at_s
        aged = age_s >= learning.max_age_s
        state = (news.count, news.max_seq, aged, learning)
        if self._considered.get(adapter.id) == state:
            return  # pairing reads everything that was ever said: once per piece of news
        if news.count < learning.new_items and not aged:
            return
        found = read_feedback(self._feedback, adapter)
        ups = sum(label.desirable for label in found.labels)
        reason = due(learning, ups, len(found.labels) - ups, len(found.pairs), news.count, age_s)
        if reason is not None:
            open_run(self._runs, adapter, reason, news.max_seq, news.newest_at_s)
            logger.info("Run opened for '%s': %s", adapter.name, reason)
        self._considered[adapter.id] = state  # last: what failed half-way is tried again


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


def due(
    learning: Learning, labels_up: int, labels_down: int, pairs: int, new_items: int, age_s: float
) -> str | None:
    """The reason to start a run now, in at most 64 characters, or None; see `Learning`.

    `labels_up`, `labels_down` and `pairs` count all that is known; `new_items` came since the last
    run, the oldest of them `age_s` ago.
    """
    labels = labels_up + labels_down
    balanced = min(labels_up, labels_down) >= learning.min_minority
    enough_labels = labels >= max(1, learning.min_labels) and balanced
    enough = enough_labels or pairs >= max(1, learning.min_pairs)
    if not (learning.enabled and enough and new_items > 0):
        return None
    known = f"{labels_up} up, {labels_down} down, {pairs} pairs"
    if new_items >= learning.new_items:
        return f"{new_items} new; {known}"[:64]
    if age_s >= learning.max_age_s:
        return f"{new_items} new, waited {learning.max_age_s:g} s; {known}"[:64]
    return None
