"""The demo's figures: shown as a table, held against what was promised."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

LEAST_GAIN = 0.5
MOST_FACTS_LOST = 0.02
SLOWEST_S = 60.0


def print_table(console: Console, figures: Mapping[str, Any]) -> None:
    """Before and after on the held-out questions, then what the turn cost."""
    table = Table(title=f"{figures['held_out_answers']} held-out questions, before and after")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for title, name in (("in the preferred style", "preferred_rate"), ("facts right", "facts")):
        old, new = figures[f"{name}_before"], figures[f"{name}_after"]
        table.add_row(title, f"{old:.1%}", f"{new:.1%}", f"{100 * (new - old):+.1f} points")
    console.print(table)
    console.print(
        f"{figures['feedback_items']} thumbs ({figures['feedback_up']} up); trained in "
        f"{figures['train_s']:.1f} s; {figures['feedback_to_served_s']:.1f} s from the last thumb "
        f"to the first answer by {figures['live_version']}.\n"
        f"{figures['background_requests']} background requests meanwhile: "
        f"{figures['background_failures']} failed, {figures['mixed_version_answers']} of mixed "
        "versions.",
        highlight=False,
    )


def passed(console: Console, figures: Mapping[str, Any]) -> bool:
    """Whether the loop did what it promises; says what it did not."""
    gain = figures["preferred_rate_after"] - figures["preferred_rate_before"]
    # Shares of whole answers: rounding keeps 0.02 from being a hair over itself.
    lost = round(figures["facts_before"] - figures["facts_after"], 6)
    promises = {
        f"preferred style up by at least {LEAST_GAIN:.0%}": gain >= LEAST_GAIN,
        f"facts down by at most {MOST_FACTS_LOST:.0%}": lost <= MOST_FACTS_LOST,
        "no background request failed": figures["background_failures"] == 0,
        "no answer of mixed versions": figures["mixed_version_answers"] == 0,
        f"served within {SLOWEST_S:.0f} s": figures["feedback_to_served_s"] < SLOWEST_S,
    }
    for promise, kept in promises.items():
        if not kept:
            console.print(f"[red]Not kept:[/red] {promise}")
    return all(promises.values())
