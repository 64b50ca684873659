"""Logs that hold what happened, whatever names and texts it happened to.

Owns that a record's text cannot forge a second record and that no terminal obeys it. Knows no
handler: whoever formats and writes the records gets them clean.
"""

from __future__ import annotations

import logging
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.shown import shown


def keep_logs_clean() -> None:
    """Clean every record this process makes from now on, of libraries too."""
    made = logging.getLogRecordFactory()
    if not isinstance(made, _Clean):
        logging.setLogRecordFactory(_Clean(made))


@dataclass(frozen=True, slots=True)
class _Clean:
    make: Callable[..., logging.LogRecord]

    def __call__(self, *args: Any, **named: Any) -> logging.LogRecord:
        record = self.make(*args, **named)
        if record.exc_info and record.exc_info[0]:
            record.exc_text = _told(record.exc_info)
        if record.name.startswith("uvicorn"):
            return record  # its formatters read the arguments, which are numbers and quoted paths
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself tells of a message that does not fit its arguments
        # vLLM's formatter begins every line anew with time and place.
        record.msg, record.args = shown(text, lines=record.name.startswith("vllm")), ()
        return record


def _told(error: Any) -> str:
    """The traceback, indented: no line of it looks like a record."""
    told = "".join(traceback.format_exception(*error)).rstrip("\n")
    return textwrap.indent(shown(told, lines=True), "    ")
