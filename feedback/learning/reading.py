"""What one adapter may learn from all that was said so far, read once and then kept in step.

Owns the rules of age and of shares, and what is remembered between two looks: judgements without
texts. Must not know: what examples are used for, when it is time to learn.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Set
from contextlib import contextmanager

from adapters.types import Adapter
from core.clock import now_s
from core.ids import AdapterId, FeedbackId
from feedback.learning.judgement import Judgement, Reader
from feedback.learning.pairing import Agreed, agree, examples
from feedback.learning.recorded import Encode
from feedback.learning.texts import Texts
from feedback.store import FeedbackStore
from feedback.types import Learnable

_SHARE_PER_USER = 0.5
"""No end user alone stands behind more than half of what a shared adapter learns."""


class Reading:
    """One adapter's feedback as judgements; each look reads only what has changed since.

    The same as reading everything anew, whatever was added, changed or deleted in between. The
    `newest` items are read. About a kilobyte of memory per item; with `texts` that are kept, all
    distinct prompts and answers too.
    """

    def __init__(
        self, store: FeedbackStore, adapter_id: AdapterId, reader: Reader, *, newest: int
    ) -> None:
        self._store, self._adapter_id = store, adapter_id
        self._reader, self._newest = reader, newest
        self._said: dict[int, int] = {}  # news number -> item number
        self._judgements: dict[int, Judgement] = {}  # by item number
        self._awaiting: set[int] = set()

    def __len__(self) -> int:
        return len(self._judgements)

    @property
    def last_seq(self) -> int:
        """The newest news number that was read; 0 before the first."""
        return max(self._said, default=0)

    def refresh(self) -> None:
        """Read what is new or was changed, forget what is gone."""
        said = self._store.said_of(self._adapter_id, self._newest)
        touched = {item for seq, item in self._said.items() if said.get(seq) != item}
        fresh = {item for seq, item in said.items() if seq not in self._said}
        there = set(said.values())
        for item in touched | fresh:
            self._judgements.pop(item, None)
        # An answer may be logged after what was said of it, and is then no news by itself.
        unread = (touched | fresh | self._awaiting) & there
        awaiting = set[int]()
        with _no_collecting():
            for judged in self._store.judged(sorted(unread)):
                self._judgements[judged.seq] = self._reader.judgement(judged.item, judged.answers)
                if judged.awaited:
                    awaiting.add(judged.seq)
        self._said, self._awaiting = said, awaiting  # last: what failed half-way is read again

    def agreed(self, adapter: Adapter) -> Agreed:
        """What it amounts to now: nothing that has expired, nor one user's taste for all."""
        with _no_collecting():
            return agree(
                self._judgements.values(),
                now_s=now_s(),
                expire_after_s=adapter.learning.expire_after_s,
                max_share_per_user=None if adapter.scope == "user" else _SHARE_PER_USER,
            )

    def since(self, watermark: int) -> Set[FeedbackId]:
        """The items that are news after a watermark."""
        new = {item for seq, item in self._said.items() if seq > watermark}
        return {self._judgements[item].id for item in new if item in self._judgements}


@contextmanager
def _no_collecting() -> Iterator[None]:
    """No look for circles of garbage in the block, which makes none: looking through a hundred
    thousand judgements again and again takes a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def read_feedback(
    store: FeedbackStore, adapter: Adapter, encode: Encode, *, newest: int
) -> Learnable:
    """What the adapter can learn now, of its `newest` items, with all texts."""
    texts = Texts(keep=True)
    reading = Reading(store, adapter.id, Reader(adapter.id, texts, encode), newest=newest)
    reading.refresh()
    return examples(reading.agreed(adapter), texts)
