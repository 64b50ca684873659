"""What this trainer remembers of what adapters were told, so that a look reads only what is new.

Owns how much is remembered, and how long an adapter rests after a look at it. Must not know why
one looks.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapters.types import Adapter
from core.database import Database
from core.ids import AdapterId
from feedback.learning.judgement import Reader
from feedback.learning.reading import Reading
from feedback.store import FeedbackStore


class Readings:
    """One reading for each adapter looked at, the longest unused forgotten first.

    `max_items` are read of each adapter, and remembered of all together where one alone has
    fewer. An adapter rests `rest` times as long as a look at it took.
    """

    def __init__(
        self,
        database: Database,
        reader: Callable[[AdapterId], Reader],
        *,
        max_items: int,
        rest: float,
    ) -> None:
        self._feedback = FeedbackStore(database)
        self._reader, self._max_items, self._rest = reader, max_items, rest
        self._readings: OrderedDict[AdapterId, Reading] = OrderedDict()
        self._rests_until_s: dict[AdapterId, float] = {}  # of the monotonic clock

    def rests(self, adapter_id: AdapterId) -> bool:
        """Whether an adapter was looked at for so long that others come first now."""
        return time.monotonic() < self._rests_until_s.get(adapter_id, 0.0)

    @contextmanager
    def look(self, adapter: Adapter) -> Iterator[Reading]:
        """Look at an adapter in the block, by its reading, which is in step with what was said."""
        began_s = time.monotonic()
        reading = self._readings.pop(adapter.id, None)
        if reading is None:
            reader = self._reader(adapter.id)
            reading = Reading(self._feedback, adapter.id, reader, newest=self._max_items)
        self._readings[adapter.id] = reading  # the last one is the one looked at last
        reading.refresh()
        yield reading
        ended_s = time.monotonic()
        self._rests_until_s[adapter.id] = ended_s + self._rest * (ended_s - began_s)

    def forget(self) -> None:
        """Drop what was not looked at for long, and rests that are over."""
        held = sum(map(len, self._readings.values()))
        while held > self._max_items and len(self._readings) > 1:
            held -= len(self._readings.popitem(last=False)[1])
        now = time.monotonic()
        self._rests_until_s = {i: until for i, until in self._rests_until_s.items() if until > now}
