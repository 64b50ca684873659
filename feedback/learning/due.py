"""When a run is due, and what is missing until it is: pure rules, on what a run would keep.

What cannot teach counts for nothing here: neither as known nor as new. Trainers decide by these
rules, servers tell by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from adapters.types import Learning, MethodChoice
from core.ids import FeedbackId
from feedback.learning.pairing import Agreed
from feedback.learning.votes import Settled, Vote


@dataclass(frozen=True, slots=True)
class Known:
    """What a run of an adapter's method would keep, and what of it is new; times in seconds."""

    labels_up: int
    labels_down: int
    pairs: int
    new_items: int
    oldest_at_s: float | None
    newest_at_s: float | None


def known(agreed: Agreed, method: MethodChoice, new: Set[FeedbackId]) -> Known:
    """Count what `method` can learn from; `new` are the items since the last run.

    A new item counts if an example rests on it and its voice has not said the same before.
    """
    labels = agreed.labels if method in ("auto", "kto") else ()
    pairs: Sequence[Settled] = agreed.pairs
    if method == "sft":
        pairs = [pair for pair in pairs if pair.vote.origin == "correction"]
    ups = sum(label.vote.side for label in labels)
    fresh = _fresh((*labels, *pairs), new)
    items = {i for vote in fresh for i in vote.feedback_ids if i in new}
    said = {(vote.key, vote.voice) for vote in fresh}
    times = [vote.at_s for vote in fresh]
    return Known(
        labels_up=ups,
        labels_down=len(labels) - ups,
        pairs=len(pairs),
        new_items=min(len(items), len(said)),
        oldest_at_s=min(times, default=None),
        newest_at_s=max(times, default=None),
    )


@dataclass(frozen=True, slots=True)
class Missing:
    """What a run still waits for.

    One starts once no labels of the first three kinds are missing, or no pairs, and no new items
    are: those are waited for until `until_s` at most, None while nothing is new.
    """

    labels: int
    up: int
    down: int
    pairs: int
    new_items: int
    until_s: float | None

    @property
    def enough_known(self) -> bool:
        """Whether it is news alone that is missing, if anything is."""
        return self.pairs == 0 or not (self.labels or self.up or self.down)


def missing(learning: Learning, found: Known, at_s: float) -> Missing:
    """What is missing for a run at the time `at_s`; nothing exactly if one is `due`."""
    rarer = max(1, learning.min_minority)
    waited = found.new_items > 0
    until_s = (found.oldest_at_s or at_s) + learning.max_age_s if waited else None
    over = until_s is not None and until_s <= at_s
    return Missing(
        labels=max(0, max(1, learning.min_labels) - found.labels_up - found.labels_down),
        up=max(0, rarer - found.labels_up),
        down=max(0, rarer - found.labels_down),
        pairs=max(0, max(1, learning.min_pairs) - found.pairs),
        new_items=0 if over else max(0, max(1, learning.new_items) - found.new_items),
        until_s=until_s,
    )


def due(
    learning: Learning, labels_up: int, labels_down: int, pairs: int, new_items: int, age_s: float
) -> str | None:
    """The reason to start a run now, in at most 64 characters, or None; see `Learning`.

    `labels_up`, `labels_down` and `pairs` count all that is known; `new_items` came since the last
    run, the oldest of them `age_s` ago.
    """
    labels = labels_up + labels_down
    # Labels of one kind alone teach nothing, however low the limit.
    balanced = min(labels_up, labels_down) >= max(1, learning.min_minority)
    enough_labels = labels >= max(1, learning.min_labels) and balanced
    enough = enough_labels or pairs >= max(1, learning.min_pairs)
    if not (learning.enabled and enough and new_items > 0):
        return None
    told = f"{labels_up} up, {labels_down} down, {pairs} pairs"
    if new_items >= learning.new_items:
        return f"{new_items} new; {told}"[:64]
    if age_s >= learning.max_age_s:
        return f"{new_items} new, waited {learning.max_age_s:g} s; {told}"[:64]
    return None


def left_out(dropped: Mapping[str, int], max_length: int) -> str:
    """What was left out of a dataset and why, most first, with the setting that decides."""
    told = {"too_long": f"too_long (over {max_length} tokens, see ATTUNE_TRAIN_MAX_LENGTH)"}
    most_first = sorted(dropped.items(), key=lambda entry: -entry[1])
    counted = [f"{count} {told.get(reason, reason)}" for reason, count in most_first]
    return ", ".join(counted) or "nothing"


def _fresh(examples: Sequence[Settled], new: Set[FeedbackId]) -> list[Vote]:
    """The votes of new items that say what their voice has not said before."""
    fresh, before = list[Vote](), set[object]()
    for vote in {id(vote): vote for one in examples for vote in one.votes}.values():
        if new.isdisjoint(vote.feedback_ids):
            before.add((vote.key, vote.voice))
        else:
            fresh.append(vote)
    return [vote for vote in fresh if (vote.key, vote.voice) not in before]
