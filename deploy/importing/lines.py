"""Files of JSON lines, read one line at a time: plain or gzip, whatever their size.

Owns what is a line and where it stands. Must not know what the rows state.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import Invalid
from core.files import disk_trouble
from core.text import decoded

MAX_LINE_BYTES = 1_000_000
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank, counted from 1: a JSON value, or why it is none.

    `read_bytes`: how far into the file reading has come.
    """

    number: int
    value: Any
    error: Invalid | None
    size_bytes: int
    read_bytes: int


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, in little memory. Raises Invalid for a file that cannot be read."""
    if not path.is_file():
        raise Invalid(f"There is no file {path}.")
    with disk_trouble(str(path), "Nothing more was read."), path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        opened = gzip.GzipFile(fileobj=raw) if packed else raw
        number = 0
        try:
            while piece := opened.readline(MAX_LINE_BYTES + 2):
                number += 1
                text = piece.removeprefix(_BOM) if number == 1 else piece
                whole = piece.endswith(b"\n")
                while piece and not piece.endswith(b"\n"):  # to the end of a line that is too long
                    piece = opened.readline(MAX_LINE_BYTES)
                if text.strip():
                    fits = whole or len(text) <= MAX_LINE_BYTES
                    yield _line(number, text.strip(), raw.tell(), fits=fits)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Invalid(f"{path} is damaged after line {number}: unpack it again.") from error


def _line(number: int, text: bytes, read_bytes: int, *, fits: bool) -> Line:
    value, error = None, None
    if not fits:
        error = Invalid(f"A line has at most {MAX_LINE_BYTES:,} bytes.")
    else:
        try:
            value = decoded(text)
        except Invalid as found:
            told = found.message.replace("The request body", "The line")
            error = Invalid(told, code=found.code)
    return Line(number, value, error, len(text), read_bytes)
