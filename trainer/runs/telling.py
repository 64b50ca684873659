"""Answers those who ask what an adapter would learn from by now; decides nothing.

Owns what goes into a look. The questions come from servers, through `feedback.learning.looks`.
"""

from __future__ import annotations

import time

from adapters.registry import Registry
from adapters.types import Adapter
from core.clock import now_s
from core.database import Database
from core.errors import NotFound
from core.ids import AdapterId
from core.work.ledger import Ledger
from core.work.watermarks import Watermarks
from feedback.learning.datasets import counts_of
from feedback.learning.due import known
from feedback.learning.looks import Effect, Look, Looks
from feedback.learning.reading import Reading
from trainer.judging.proof import more_judgements
from trainer.runs.readings import Readings
from trainer.types import RUN, GateLimits

_TURN_S = 1.0
_RUNS = 20
"""How far back a verdict is looked for: the runs since may all have failed."""


class Teller:
    """Looks at the adapters that were asked about. Cheap to call often: one query if none was."""

    def __init__(self, database: Database, readings: Readings, limits: GateLimits) -> None:
        self._database, self._readings, self._limits = database, readings, limits
        self._looks = Looks(database)
        self._registry = Registry(database)
        self._runs = Ledger(database, RUN)
        self._marks = Watermarks(database)

    def answer(self) -> None:
        """Answer what can be answered now; adapters that rest are answered later.

        Those longest waiting come first. It takes about `_TURN_S`, so that nobody's questions keep
        runs from being opened.
        """
        until_s = time.monotonic() + _TURN_S
        waiting = self._looks.waiting()
        for adapter_id, asked_s in waiting.items():
            if time.monotonic() > until_s:
                break
            if not self._readings.rests(adapter_id):
                self._answer(adapter_id, asked_s)
        if waiting:
            self._readings.forget()

    def _answer(self, adapter_id: AdapterId, asked_s: float) -> None:
        try:
            adapter = self._registry.by_id(adapter_id)
        except NotFound:
            return
        with self._readings.look(adapter) as reading:
            self._looks.answer(adapter_id, asked_s, self._look(adapter, reading))

    def _look(self, adapter: Adapter, reading: Reading) -> Look:
        mark = self._marks.of([adapter.id])[adapter.id]
        agreed = reading.agreed(adapter)
        return Look(
            at_s=now_s(),
            last_seq=reading.last_seq,
            known=known(agreed, adapter.learning.method, reading.since(mark)),
            left_out=agreed.dropped,
            effect=self._effect(adapter),
        )

    def _effect(self, adapter: Adapter) -> Effect | None:
        """What the newest verdict found; None before the first."""
        runs = self._runs.list(adapter.tenant_id, {"adapter_id": adapter.id}, limit=_RUNS).items
        for run in runs:
            verdict = run.facts.verdict
            if verdict is not None and verdict.margin is not None:
                counts = counts_of(self._database, run.facts.snapshot_digest or "")
                labels = counts.get("labels_up", 0) + counts.get("labels_down", 0)
                pairs = counts.get("train_pairs", 0) + counts.get("held_out_pairs", 0)
                margin, few = verdict.margin, self._limits.few_held_out
                more = more_judgements(margin, labels + pairs, few)
                return Effect(margin.mean, margin.low, margin.high, margin.n, more)
        return None
