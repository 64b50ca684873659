"""Tastes that a program can judge, and answers that nobody could like.

Pure functions of an answer's text. Must not know: who asked, what the model is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_ITEM = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):])\s+\S", re.MULTILINE)
_LONGEST_WORDS = 30
_PHRASE, _TOO_OFTEN = 4, 3
"""An answer that says the same four words three times goes round in circles."""
_SPECIAL = re.compile(r"<\|[^|\n]{0,30}\|>|�")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it was received; one that was cut at its most tokens has not `ended`."""

    text: str
    ended: bool


def lists(answer: Said) -> bool:
    """It has a list: two lines that begin as items do."""
    return len(_ITEM.findall(answer.text)) >= 2


def is_brief(answer: Said) -> bool:
    """It says what it has to say in at most 30 words, and ends."""
    return answer.ended and 0 < len(answer.text.split()) <= _LONGEST_WORDS


def asks_back(answer: Said) -> bool:
    """It ends, by a question."""
    return answer.ended and answer.text.rstrip(" \n\"')*").endswith("?")


TASTES: Mapping[str, Callable[[Said], bool]] = {
    "list": lists,
    "brief": is_brief,
    "ask-back": asks_back,
}
"""By the name that the command and the figures use."""


def broken(answer: Said) -> bool:
    """Whether it is no answer at all: empty, signs without words, going round, or markup."""
    words = answer.text.lower().split()
    phrases = Counter(zip(*(words[at:] for at in range(_PHRASE)), strict=False))
    circling = max(phrases.values(), default=0) >= _TOO_OFTEN
    wordless = not re.search(r"\w", answer.text)
    return wordless or circling or bool(_SPECIAL.search(answer.text))
