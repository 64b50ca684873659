"""A log record is one record, whatever names and texts are in it, whoever writes it where."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from core.logs import keep_logs_clean

EVIL = "x\x1b[2J\r\nERROR attune.server: all keys were stolen\u202e"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """A log as any program may have set it up, before or after ours were made clean."""
    before = logging.getLogRecordFactory()
    keep_logs_clean()
    keep_logs_clean()
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield text
    root.removeHandler(handler)
    logging.setLogRecordFactory(before)


def clean(text: str) -> bool:
    return not set(text) & set("\x1b\r\u202e\x9b")


@pytest.mark.parametrize("name", ["attune.server", "dbos", "httpx", "somebody.elses"])
def test_a_name_can_forge_no_second_record(written: io.StringIO, name: str) -> None:
    logging.getLogger(name).warning("Cannot load '%s' (%d).", EVIL, 7)
    (line,) = written.getvalue().splitlines()
    assert line.startswith(f"WARNING {name}: Cannot load 'x\\x1b[2J\\r\\nERROR attune.server")
    assert line.endswith("\\u202e' (7).")


def test_an_error_in_a_traceback_can_forge_none_either(written: io.StringIO) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        logging.getLogger("attune.server").exception("It failed: %s", {"name": EVIL})
    first, *rest = written.getvalue().splitlines()
    assert first.startswith("ERROR attune.server: It failed")
    assert len(rest) > 3
    assert all(line.startswith("    ") for line in rest)
    assert any("all keys were stolen" in line for line in rest)
    assert clean(written.getvalue())


def test_vllms_lines_stay_for_its_own_formatter_begins_each_anew(written: io.StringIO) -> None:
    logging.getLogger("vllm.engine").warning("one\ntwo\x1b[31m")
    assert written.getvalue() == "WARNING vllm.engine: one\ntwo\\x1b[31m\n"


@pytest.mark.usefixtures("written")
def test_uvicorns_arguments_stay_as_its_formatters_read_them() -> None:
    make = logging.getLogRecordFactory()
    said = ("1.2.3.4:5", "GET", "/%0a", "1.1", 200)
    form = '%s - "%s %s HTTP/%s" %d'
    assert make("uvicorn.access", logging.INFO, "f.py", 1, form, said, None).args == said
    assert make("attune.server", logging.INFO, "f.py", 1, form, said, None).args == ()


def test_a_message_that_does_not_fit_its_arguments_is_logging_own_affair(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("attune.server").warning("%d of %s", "x")
    logging.getLogger("attune.server").warning("100 %")
    assert written.getvalue() == "WARNING attune.server: 100 %\n"
