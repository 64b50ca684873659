"""How commands speak: a table for people, JSON with --json, and nothing else on stdout.

Everything for people passes the console here, whoever wrote the text: nothing in it is markup, and
what a terminal would obey is spelt out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from core.shown import shown

Url = Annotated[str, typer.Option(envvar="ATTUNE_URL", help="The server.", show_default=True)]
Key = Annotated[str, typer.Option(envvar="ATTUNE_API_KEY", help="An API key.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

DEFAULT_URL = "http://127.0.0.1:8000"

_COPIED = ("id", "key", "name")
_WIDEST = 100_000


class Terminal(Console):
    """rich's console, but text is only text."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What of `renderable` is written, as rich asks for it: its own cursor moves stay."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(shown(segment.text, lines=True), segment.style)


console = Terminal()
errors = Terminal(stderr=True)


def progress(figures: str, *, hidden: bool = False) -> Progress:
    """A bar for each task, between its description and `figures`, a format of the task."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(figures, markup=False),
        TimeElapsedColumn(),
        console=console,
        disable=hidden,
    )


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows as a table of `columns`, or whole as JSON."""
    if as_json:
        print(json.dumps(list(rows), indent=2, default=str))
        return
    if not rows:
        console.print("none")
        return
    table = Table(box=None, header_style="bold")
    for column in columns:
        # Ids and keys are there to be copied: they are never cut or wrapped.
        title = column.replace("_", " ")
        table.add_column(title, no_wrap=column in _COPIED, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    _print_whole(table)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing, field by field."""
    if as_json:
        print(json.dumps(row, indent=2, default=str))
        return
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(Text(shown(name.replace("_", " "))), Text(_cell(value)))
    _print_whole(table)


def _print_whole(table: Table) -> None:
    """Print wider than the terminal where a word would not fit else: nothing is lost."""
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False, soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple | frozenset | set):
        return shown(", ".join(str(item) for item in sorted(value, key=str)))
    return shown(str(value))
