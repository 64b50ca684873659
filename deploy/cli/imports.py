"""`attune import`: judgements made elsewhere, from files of JSON lines, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import Invalid
from core.shown import shown
from deploy.edge.http import Patience, Server
from deploy.importing.sending import Counts, Progress, Sent, check, send
from deploy.terminal import DEFAULT_URL, Json, Key, Url, console, errors, progress, show_one
from feedback.rows import RowKind

app = typer.Typer(help="Judgements made elsewhere, as JSON lines.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="JSON lines, one row a line; may be gzip.")]
Adapter = Annotated[str, typer.Option(help="The adapter that is to learn from them.")]
Plain = Annotated[
    bool,
    typer.Option(help="Prompts that are texts are texts to go on from, not a user's messages."),
]
DryRun = Annotated[bool, typer.Option(help="Count, say what can be learnt, store nothing.")]
SkipBad = Annotated[bool, typer.Option(help="Leave out lines that cannot be read.")]


@app.command("pairs")
def import_pairs(
    file: File,
    adapter: Adapter,
    plain: Plain = False,
    dry_run: DryRun = False,
    skip_bad: SkipBad = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Import pairs: prompt, chosen, rejected (TRL's forms), or OpenAI's preference form."""
    _import(Order(file, adapter, "pairs", plain, dry_run, skip_bad, as_json), url, key)


@app.command("labels")
def import_labels(
    file: File,
    adapter: Adapter,
    plain: Plain = False,
    dry_run: DryRun = False,
    skip_bad: SkipBad = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Import labels: prompt, completion, label (TRL), or OpenAI's messages as good answers."""
    _import(Order(file, adapter, "labels", plain, dry_run, skip_bad, as_json), url, key)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for."""

    file: Path
    adapter: str
    kind: RowKind
    plain: bool
    dry_run: bool
    skip_bad: bool
    as_json: bool


def _import(order: Order, url: str, key: str) -> None:
    # Before a long file is read.
    learning = Server(url, key).get(f"/v1/adapters/{order.adapter}")["learning"]
    with _bar("Checking", order) as at:
        counts = check(order.file, order.kind, plain=order.plain, progress=at)
    found = {"adapter": order.adapter, **_counted(counts)}
    if order.dry_run:
        told = {**found, "says": _enough(counts, learning), "bad": counts.bad}
        show_one(told, as_json=order.as_json)
        return
    if counts.skipped and not order.skip_bad:
        raise Invalid(_refused(counts))
    if counts.rows == 0:
        raise Invalid(f"There is nothing to import in {order.file}.")
    patient = Server(url, key, Patience(say=errors.print))
    with _bar("Importing", order) as at:
        sent = send(patient, order.file, order.adapter, order.kind, plain=order.plain, progress=at)
    _tell(found, counts, sent, as_json=order.as_json)
    if sent.rejected and not order.skip_bad:
        raise typer.Exit(1)


@contextmanager
def _bar(what: str, order: Order) -> Iterator[Progress]:
    if not order.file.is_file():
        raise Invalid(f"There is no file {order.file}.")
    size_bytes = max(1, order.file.stat().st_size)
    with progress("{task.percentage:>3.0f}%", hidden=order.as_json) as screen:
        task = screen.add_task(shown(f"{what} {order.file.name}"), total=size_bytes)
        yield lambda read_bytes: screen.update(task, completed=read_bytes)


def _counted(counts: Counts) -> dict[str, Any]:
    names = ("rows", "pairs", "labels_up", "labels_down", "repeated", "plain_texts", "skipped")
    return {name: getattr(counts, name) for name in names}


def _enough(counts: Counts, learning: dict[str, Any]) -> str:
    """What the rows alone would do by the adapter's settings, once stored."""
    ups, downs = counts.labels_up, counts.labels_down
    if counts.pairs >= max(1, learning["min_pairs"]):
        known = f"{counts.pairs} pairs are enough for a run (min_pairs {learning['min_pairs']})"
    elif ups + downs >= learning["min_labels"] and min(ups, downs) >= learning["min_minority"]:
        known = f"{ups} up and {downs} down are enough for a run"
    else:
        known = (
            f"by themselves too few for a run: it takes {learning['min_pairs']} pairs, or "
            f"{learning['min_labels']} labels with {learning['min_minority']} of the rarer kind"
        )
    return f"{known}; too long ones are left out when the trainer counts their tokens"


def _refused(counts: Counts) -> str:
    more = counts.skipped - len(counts.bad)
    told = "\n".join(counts.bad) + (f"\n… and {more:,} more" if more else "")
    return (
        f"{counts.skipped:,} of {counts.rows + counts.skipped:,} lines cannot be read; nothing was "
        f"imported. Correct them, or leave them out with --skip-bad.\n{told}"
    )


def _tell(found: dict[str, Any], counts: Counts, sent: Sent, *, as_json: bool) -> None:
    bad = [*counts.bad, *sent.bad]
    became = {"stored": sent.stored, "already_stored": sent.already_stored}
    row = {**found, **became, "rejected": sent.rejected}
    if as_json:
        show_one({**row, "bad": bad}, as_json=True)
        return
    show_one(row, as_json=False)
    for line in bad:
        errors.print(line)
    console.print(f"What is known now: attune adapters show {shown(str(found['adapter']))}")
