"""Files of JSON lines: read one line at a time, and what is wrong named by its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import Invalid
from deploy.importing.lines import MAX_LINE_BYTES, read_lines
from deploy.importing.sending import check

ROW = {"prompt": "Which?", "chosen": "This.", "rejected": "That."}
LINE = json.dumps(ROW).encode()


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        LINE + b"\n" + LINE + b"\n",
        LINE + b"\n" + LINE,  # no end of the last line
        b"\xef\xbb\xbf" + LINE + b"\r\n" + LINE + b"\r\n",  # a BOM, Windows' ends of lines
        gzip.compress(LINE + b"\n" + LINE + b"\n", mtime=0),
        LINE + b"\n\n  \n" + LINE,  # blank lines are none
    ],
)
def test_a_line_is_a_row_however_the_file_was_written(tmp_path: Path, data: bytes) -> None:
    lines = list(read_lines(written(tmp_path, data)))
    assert [(line.value, line.error) for line in lines] == [(ROW, None)] * 2
    assert lines[-1].read_bytes == len(data)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b"{", "not valid JSON"),
        (b"{'prompt': 1}", "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'"' + b"x" * MAX_LINE_BYTES + b'"', "at most 1,000,000 bytes"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_json_is_told_by_its_line_and_the_next_is_read(
    tmp_path: Path, bad: bytes, told: str
) -> None:
    first, second, third = read_lines(written(tmp_path, b"\n".join([LINE, bad, LINE])))
    assert first.value == third.value == ROW
    assert (second.number, third.number) == (2, 3)
    assert second.error is not None
    assert told in second.error.message
    assert "request" not in second.error.message


def test_a_line_of_the_longest_length_is_read(tmp_path: Path) -> None:
    for end in (b"", b"\n", b"\r\n"):
        longest = b'"' + b"x" * (MAX_LINE_BYTES - 2) + b'"'
        (line, *_) = read_lines(written(tmp_path, longest + end + LINE * bool(end)))
        assert line.error is None, end


def test_a_damaged_archive_says_where(tmp_path: Path) -> None:
    packed = gzip.compress(b"\n".join([LINE] * 1000))
    with pytest.raises(Invalid, match="damaged after line"):
        list(read_lines(written(tmp_path, packed[:-20])))


@pytest.mark.parametrize("missing", ["nothing.jsonl", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, missing: str) -> None:
    with pytest.raises(Invalid, match="no file"):
        list(read_lines(tmp_path / missing))


def test_a_file_is_counted_and_its_bad_lines_are_named(tmp_path: Path) -> None:
    rows: list[Any] = [
        ROW,
        ROW,
        {**ROW, "rejected": "This."},
        {**ROW, "chosen": "\u001b[31mred"},
        {"prompt": "a", "completion": "b", "label": True},
        *({**ROW, "chosen": n} for n in range(20)),
    ]
    data = b"\n".join(json.dumps(row).encode() for row in rows)
    seen: list[int] = []
    counts = check(written(tmp_path, data), "pairs", plain=False, progress=seen.append)
    assert (counts.rows, counts.pairs, counts.repeated, counts.skipped) == (3, 2, 1, 22)
    assert len(counts.bad) == 10
    assert counts.bad[0] == "line 3: rejected: it is the same text as the better answer."
    assert counts.bad[1].startswith("line 5: ")
    assert seen[-1] == len(data)


def test_labels_are_counted_by_side(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": str(n), "label": n % 3 == 0} for n in range(9)]
    data = b"\n".join(json.dumps(row).encode() for row in rows)
    plain = check(written(tmp_path, data), "labels", plain=True, progress=lambda _: None)
    assert (plain.labels_up, plain.labels_down, plain.plain_texts) == (3, 6, 9)
