"""The regression suite: what an answer must still contain, whatever else was learnt.

Owns the suite's file format and when an item passes. Must not know: models.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import Invalid
from trainer.types import Prompt

LONGEST_ANSWER_TOKENS = 96
_KEYS = {"prompt", "must_contain", "kind", "must_end", "max_tokens"}


@dataclass(frozen=True, slots=True)
class SuiteItem:
    """One question; its answer passes with every string of `must_contain` as whole words.

    With `must_end` the answer must also end by itself within `max_tokens` tokens.
    """

    prompt: Prompt
    must_contain: tuple[str, ...]
    kind: str = "facts"
    must_end: bool = False
    max_tokens: int = LONGEST_ANSWER_TOKENS

    def passes(self, text: str, tokens: int, ended: bool) -> bool:
        """Whether an answer of `tokens` tokens, which `ended` by itself or was cut, passes."""
        if self.must_end and not (ended and tokens <= self.max_tokens):
            return False
        return all(contains(text, wanted) for wanted in self.must_contain)


def contains(text: str, wanted: str) -> bool:
    """Whether `wanted` occurs in `text` as whole words, in any case.

    Numbers are exact: 12 occurs neither in 123 nor in 12:30, 1.12 or 12,5.
    """
    before = r"(?<!\w)(?<!\d[.,:])" if wanted[:1].isdigit() else r"(?<!\w)"
    after = r"(?!\w)(?![.,:]\d)" if wanted[-1:].isdigit() else r"(?!\w)"
    return re.search(before + re.escape(wanted) + after, text, re.IGNORECASE) is not None


def load_suite(path: Path) -> tuple[SuiteItem, ...]:
    """The suite in a JSONL file: `{"prompt", "must_contain", "kind"}` a line.

    `prompt` is a text or a list of messages; a text is asked as a user's message. Optional:
    `must_end` (true or false) and `max_tokens`. Raises Invalid naming the line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"The regression suite {path} cannot be read: {error}") from error
    items = tuple(
        _item(line, f"{path.name}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    if not items:
        raise Invalid(f"The regression suite {path} is empty; leave the setting out instead.")
    return items


def _item(line: str, where: str) -> SuiteItem:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise Invalid(f"{where}: not valid JSON ({error}).") from error
    if not isinstance(row, dict):
        raise Invalid(f"{where}: expected an object with prompt and must_contain.")
    if unknown := sorted(set(row) - _KEYS):
        raise Invalid(f"{where}: unknown keys {', '.join(unknown)}; known: {', '.join(_KEYS)}.")
    wanted = row.get("must_contain", [])
    if not isinstance(wanted, list) or not all(isinstance(w, str) and w for w in wanted):
        raise Invalid(f"{where}: must_contain is a list of texts that are not empty.")
    kind, must_end = row.get("kind", "facts"), row.get("must_end", False)
    max_tokens = row.get("max_tokens", LONGEST_ANSWER_TOKENS)
    if not isinstance(kind, str) or not kind:
        raise Invalid(f"{where}: kind is a text that is not empty.")
    if not isinstance(must_end, bool):
        raise Invalid(f"{where}: must_end is true or false.")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise Invalid(f"{where}: max_tokens is a whole number over 0.")
    if not wanted and not must_end:
        raise Invalid(f"{where}: it asks for nothing; give must_contain or must_end.")
    return SuiteItem(_prompt(row.get("prompt"), where), tuple(wanted), kind, must_end, max_tokens)


def _prompt(value: Any, where: str) -> Prompt:
    if isinstance(value, str) and value:
        return ({"role": "user", "content": value},)
    if (
        isinstance(value, list)
        and value
        and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value)
    ):
        return tuple(value)
    raise Invalid(f"{where}: prompt is a text or a list of messages with a role.")
