"""What an adapter knows and what it waits for, as the terminal shows it."""

from __future__ import annotations

from typing import Any

from core.shown import shown
from deploy.run_progress import print_verdict
from deploy.terminal import console


def print_learning(learning: dict[str, Any]) -> None:
    """What `GET /v1/adapters/{name}/learning` told, a line a fact."""
    _say(learning["message"])
    known = learning["known"]
    if known is not None:
        _say(
            f"Known: {known['labels_up']} up, {known['labels_down']} down, {known['pairs']} pairs; "
            f"new since the last run: {known['new_items']}. Counted {learning['as_of']}."
        )
    if learning["said_since"]:
        _say(f"Not counted yet: {learning['said_since']} items that came since.")
    if learning["left_out"]:
        _say("Left out:")
    for one in learning["left_out"]:
        _say(f"  {one['count']} {one['reason']}: {one['note']}")
    if learning["last_run"] is not None:
        _say(f"Last judged: {learning['last_run']['id']}")
        print_verdict(learning["last_run"]["verdict"])
    if learning["effect"] is not None:
        _say(_effect(learning["effect"]))


def _effect(effect: dict[str, Any]) -> str:
    seen = f"{effect['mean']:+.2f} nats ({effect['low']:+.2f} to {effect['high']:+.2f})"
    more = effect["more_judgements"]
    if more is None:
        return f"It moved by {seen}: more of the same judgements would prove nothing."
    if more == 0:
        return f"It moved by {seen}: as many judgements prove an effect of that size."
    return f"It moved by {seen}: about {more:,} more judgements would prove an effect of that size."


def _say(text: str) -> None:
    console.print(shown(text))
