"""When an adapter is due for training: pure rules on counts, no clock and no database."""

from __future__ import annotations

from adapters.types import Learning


def due(
    learning: Learning,
    labels_up: int,
    labels_down: int,
    pairs: int,
    new_items: int,
    oldest_new_at_s: float | None,
    now_s: float,
) -> str | None:
    """The reason to start a run now, in at most 64 characters, or None; see `Learning`.

    `labels_up`, `labels_down` and `pairs` count all that is known; `new_items` and
    `oldest_new_at_s` (seconds since the epoch) what came since the last run.
    """
    if not learning.enabled or not _enough(learning, labels_up, labels_down, pairs):
        return None
    known = f"{labels_up} up, {labels_down} down, {pairs} pairs"
    if new_items > 0 and new_items >= learning.new_items:
        return f"{new_items} new; {known}"[:64]
    if _waited(learning, new_items, oldest_new_at_s, now_s):
        return f"{new_items} new, waited {learning.max_age_s:g} s; {known}"[:64]
    return None


def _enough(learning: Learning, labels_up: int, labels_down: int, pairs: int) -> bool:
    labelled = labels_up + labels_down >= learning.min_labels
    balanced = min(labels_up, labels_down) >= learning.min_minority
    return (labelled and balanced and labels_up + labels_down > 0) or (
        pairs >= learning.min_pairs and pairs > 0
    )


def _waited(
    learning: Learning, new_items: int, oldest_new_at_s: float | None, now_s: float
) -> bool:
    if new_items == 0 or oldest_new_at_s is None:
        return False
    return now_s >= oldest_new_at_s + learning.max_age_s
