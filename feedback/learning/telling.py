"""What is missing for a run, in a sentence. Pure; the rule is `feedback.learning.due`."""

from __future__ import annotations

from adapters.types import Learning
from feedback.learning.due import Missing


def in_words(learning: Learning, lacks: Missing, at_s: float) -> str:
    """One sentence for whoever waits for a run; `at_s` is now."""
    if not learning.enabled:
        return "Learning is off: set learning.enabled, or start a run by hand."
    waits = [] if lacks.enough_known else [_known(learning, lacks)]
    if lacks.new_items:
        news = f"{lacks.new_items} more new {'item' if lacks.new_items == 1 else 'items'}"
        waits.append(news if lacks.until_s is None else f"{news}, or {_span(lacks.until_s - at_s)}")
    if not waits:
        return "Enough is known and new: a run is due."
    return f"Missing for a run: {'; and '.join(waits)}."


def _known(learning: Learning, lacks: Missing) -> str:
    pairs = "corrections" if learning.method == "sft" else "pairs"
    in_pairs = f"{lacks.pairs} of {max(1, learning.min_pairs)} {pairs}"
    if learning.method in ("dpo", "sft"):  # no label is learnt by these
        return in_pairs
    rarer = max(1, learning.min_minority)
    kinds = {
        f"{lacks.labels} of {max(1, learning.min_labels)} labels": lacks.labels,
        f"{lacks.up} of {rarer} up": lacks.up,
        f"{lacks.down} of {rarer} down": lacks.down,
    }
    return f"{', '.join(text for text, count in kinds.items() if count)} (or {in_pairs})"


def _span(left_s: float) -> str:
    if left_s < 90:
        return f"{max(1, round(left_s))} seconds"
    minutes = round(left_s / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
