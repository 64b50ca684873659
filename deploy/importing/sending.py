"""A file of judgements sent to a server: checked first, then row by row, a hundred to a call.

Owns the order of things and what is told of it. What a row states is `feedback.rows`'s; the
server's answer has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import Invalid
from core.shown import shown
from deploy.edge.http import Server
from deploy.importing.lines import Line, read_lines
from feedback.receivers.judgements import MAX_ROWS
from feedback.rows import Row, RowKind, read_row

_TOLD = 10
_CALL_BYTES = 2_000_000
_REMEMBERED = 1_000_000
"""Rows that a repeated one is told by: a file may be larger than the memory."""

Progress = Callable[[int], None]
"""Told how many bytes of the file are read."""


@dataclass(slots=True)
class Counts:
    """What a file holds; `bad` names the first rows that state nothing, of `skipped` in all."""

    rows: int = 0
    pairs: int = 0
    labels_up: int = 0
    labels_down: int = 0
    repeated: int = 0
    plain_texts: int = 0
    skipped: int = 0
    bad: list[str] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set, repr=False)

    def add(self, row: Row) -> None:
        """Count a row; one that states what another did is counted as repeated alone."""
        self.rows += 1
        key = int(row.digest[:16], 16)
        if key in self._seen:
            self.repeated += 1
            return
        if len(self._seen) < _REMEMBERED:
            self._seen.add(key)
        self.plain_texts += isinstance(row.prompt, str)
        if len(row.answers) == 2:
            self.pairs += 1
        elif row.good:
            self.labels_up += 1
        else:
            self.labels_down += 1

    def skip(self, number: int, why: str) -> None:
        """Count a line that is no row, and remember the first few."""
        self.skipped += 1
        if len(self.bad) < _TOLD:
            self.bad.append(f"line {number}: {shown(why[:500])}")


@dataclass(slots=True)
class Sent:
    """What became of the rows that were sent."""

    stored: int = 0
    already_stored: int = 0
    rejected: int = 0
    bad: list[str] = field(default_factory=list)


def check(path: Path, kind: RowKind, *, plain: bool, progress: Progress) -> Counts:
    """Read all of the file and count what it states; nothing is sent."""
    counts = Counts()
    for line in read_lines(path):
        try:
            counts.add(_row(line, kind, plain))
        except Invalid as error:
            counts.skip(line.number, error.message)
        progress(line.read_bytes)
    return counts


def send(
    server: Server, path: Path, adapter: str, kind: RowKind, *, plain: bool, progress: Progress
) -> Sent:
    """Send every good row; what the server has already is not stored twice."""
    sent = Sent()
    for lines in _calls(path, kind, plain):
        rows = [line.value for line in lines]
        body = {"adapter": adapter, "kind": kind, "plain": plain, "rows": rows}
        for line, result in zip(
            lines, server.post("/v1/judgements", json=body)["results"], strict=True
        ):
            _note(sent, line, result)
        progress(lines[-1].read_bytes)
    return sent


def _calls(path: Path, kind: RowKind, plain: bool) -> Iterator[Sequence[Line]]:
    """The good rows, as many together as a call takes."""
    together: list[Line] = []
    size_bytes = 0
    for line in read_lines(path):
        try:
            _row(line, kind, plain)
        except Invalid:
            continue
        if together and (len(together) == MAX_ROWS or size_bytes + line.size_bytes > _CALL_BYTES):
            yield together
            together, size_bytes = [], 0
        together.append(line)
        size_bytes += line.size_bytes
    if together:
        yield together


def _row(line: Line, kind: RowKind, plain: bool) -> Row:
    if line.error is not None:
        raise line.error
    return read_row(line.value, kind, plain=plain)


def _note(sent: Sent, line: Line, result: Any) -> None:
    if result["status"] == "stored":
        sent.stored += 1
    elif result["status"] == "already_stored":
        sent.already_stored += 1
    else:
        sent.rejected += 1
        if len(sent.bad) < _TOLD:
            sent.bad.append(f"line {line.number}: {shown(str(result['error']['message'])[:500])}")
