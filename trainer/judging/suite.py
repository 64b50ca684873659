"""The regression suite: what an answer must still contain, whatever else was learnt.

Owns the suite's file format and when an item passes. Must not know: models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import Invalid
from trainer.judging.conditions import contains, equals, is_json, refuses
from trainer.types import Prompt

LONGEST_ANSWER_TOKENS = 96

GENERAL_SUITE = Path(__file__).parent / "data" / "general.jsonl"
"""150 plain questions for chat models that bring no suite of their own."""


@dataclass(frozen=True, slots=True)
class SuiteItem:
    """One question, answered greedily; its answer passes if it fulfils all that is asked.

    `must_contain` and `must_not_contain`: strings as whole words, in any case. `must_match`: a
    regular expression found somewhere. `must_equal`: the text itself, letter for letter.
    `must_be_json`: an object or array. `must_refuse`: a phrase of declining or warning. With
    `must_end` the answer ends by itself within `max_tokens` tokens; else it is cut there.
    """

    prompt: Prompt
    must_contain: tuple[str, ...] = ()
    kind: str = "facts"
    must_end: bool = False
    max_tokens: int = LONGEST_ANSWER_TOKENS
    must_not_contain: tuple[str, ...] = ()
    must_match: str | None = None
    must_equal: str | None = None
    must_be_json: bool = False
    must_refuse: bool = False

    def passes(self, text: str, tokens: int, ended: bool) -> bool:
        """Whether an answer of `tokens` tokens, which `ended` by itself or was cut, passes."""
        if self.must_end and not (ended and tokens <= self.max_tokens):
            return False
        return (
            all(contains(text, wanted) for wanted in self.must_contain)
            and not any(contains(text, unwanted) for unwanted in self.must_not_contain)
            and (self.must_match is None or re.search(self.must_match, text) is not None)
            and (self.must_equal is None or equals(text, self.must_equal))
            and (not self.must_be_json or is_json(text))
            and (not self.must_refuse or refuses(text))
        )


def suite_for(path: Path | None, *, is_chat: bool) -> tuple[SuiteItem, ...]:
    """What the operator or the model brings, else the general one for models that chat."""
    found = path or (GENERAL_SUITE if is_chat else None)
    return load_suite(found) if found else ()


def load_suite(path: Path) -> tuple[SuiteItem, ...]:
    """The suite in a JSONL file: `{"prompt", "must_contain", "kind"}` a line.

    `prompt` is a text or a list of messages; a text is asked as a user's message. The other keys
    are the fields of `SuiteItem`. Raises Invalid naming the line that is wrong.
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


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return _is_text(value)


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "must_contain": (_are_texts, "a list of texts that are not empty"),
    "must_not_contain": (_are_texts, "a list of texts that are not empty"),
    "must_match": (_is_pattern, "a regular expression"),
    "must_equal": (_is_text, "a text that is not empty"),
    "must_be_json": (_is_truth, "true or false"),
    "must_refuse": (_is_truth, "true or false"),
    "must_end": (_is_truth, "true or false"),
    "kind": (_is_text, "a text that is not empty"),
    "max_tokens": (_is_count, "a whole number over 0"),
}
"""What may be said of an item beside its prompt, and what it must be."""


def _item(line: str, where: str) -> SuiteItem:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{where}: not valid JSON ({error}).") from error
    if not isinstance(row, dict):
        raise Invalid(f"{where}: expected an object with prompt and must_contain.")
    prompt = _prompt(row.pop("prompt", None), where)
    if unknown := sorted(set(row) - set(_KEYS)):
        known = ", ".join(["prompt", *_KEYS])
        raise Invalid(f"{where}: unknown keys {', '.join(unknown)}; known: {known}.")
    for key, value in row.items():
        is_right, wanted = _KEYS[key]
        if not is_right(value):
            raise Invalid(f"{where}: {key} is {wanted}.")
    if not any(value for key, value in row.items() if key.startswith("must_")):
        raise Invalid(f"{where}: it asks for nothing; give must_contain or another must_….")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return SuiteItem(prompt, **fields)


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
