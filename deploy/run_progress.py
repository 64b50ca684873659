"""A training run as the terminal shows it: its progress live, and the gate's verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from core.shown import shown
from deploy.edge.http import Server
from deploy.terminal import console, progress

_FIGURES = {
    "loss": "loss {:.4f}",
    "kl_to_base": "KL {:.2f}",
    "holdout_margin": "margin {:+.2f}",
}
_ENDED = ("succeeded", "rejected", "failed", "cancelled")


def watch(client: Server, run_id: str, *, timeout_s: float = 3600.0) -> dict[str, Any]:
    """Show a run's progress until it ends; the run as it ended."""
    deadline = time.monotonic() + timeout_s
    after = 0
    with progress("{task.completed:.0f}/{task.total:.0f}  {task.fields[figures]}") as screen:
        bars: dict[str, Any] = {}
        known: dict[str, dict[str, Any]] = {}
        while True:
            run = client.get(f"/v1/runs/{run_id}")
            for event in run_events(client, run_id, after):
                after = int(event["id"])
                if event["type"] == "message":
                    console.print(f"  {shown(event['message'])}")
                    continue
                data = event["data"]
                name = event["message"]
                if name not in bars:
                    bars[name] = screen.add_task(shown(name), total=data["steps"], figures="")
                known[name] = {**known.get(name, {}), **data}
                screen.update(bars[name], completed=data["step"], figures=figures(known[name]))
            if run["state"] in _ENDED or time.monotonic() > deadline:
                return run
            time.sleep(0.3)


def figures(known: Mapping[str, Any]) -> str:
    """What is known of a training so far; the KL and the margin are from its last look."""
    return "  ".join(
        form.format(known[name])
        for name, form in _FIGURES.items()
        if isinstance(known.get(name), int | float)
    )


def in_words(recipe: Mapping[str, Any]) -> str:
    """A recipe in one line."""
    figures = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in recipe.items()
    }
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())


def print_verdict(verdict: dict[str, Any] | None) -> None:
    """The gate's checks, one a line."""
    if verdict is None:
        return
    word = ("promoted", "green") if verdict["promoted"] else ("rejected", "red")
    console.print(Text.assemble("The gate: ", word))
    for check in verdict["checks"]:
        mark = ("  ✓ ", "green") if check["passed"] else ("  ✗ ", "red")
        console.print(Text.assemble(mark, shown(f"{check['name']}: {check['detail']}")))


def print_samples(samples: list[dict[str, str]]) -> None:
    """What was answered before and what the candidate answers, whole."""
    if samples:
        console.print("Answers at temperature 1, before and after:")
    for sample in samples:
        for word, name in (("?", "prompt"), ("-", "before"), ("+", "after")):
            text = shown(sample[name], lines=True).replace("\n", "\n    ")
            console.print(Text(f"  {word} {text}"))


def run_events(client: Server, run_id: str, after: int = 0) -> list[dict[str, Any]]:
    """All of a run's events after number `after`."""
    events: list[dict[str, Any]] = []
    while True:
        page = client.get(f"/v1/runs/{run_id}/events", {"after": after, "limit": 200})
        events += page["data"]
        if not page["has_more"]:
            return events
        after = int(page["last_id"])
