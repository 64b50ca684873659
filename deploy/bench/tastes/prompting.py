"""The same taste without training: liked answers put into the prompt, as turns before the question.

Owns which of them: those to the questions most like the one asked, by the words they share, the
rarer the word the more it counts. Must not know: models, thumbs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from feedback.types import Message

SHOWN = 4
"""Liked answers in a prompt, the nearest last."""

Liked = tuple[str, str]
"""A question and an answer to it that was liked."""


def prompted(question: str, liked: Sequence[Liked]) -> tuple[Message, ...]:
    """A chat that has the nearest liked answers before the question."""
    turns: list[Message] = []
    for asked, answer in reversed(nearest(question, liked)):
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return (*turns, {"role": "user", "content": question})


def nearest(question: str, liked: Sequence[Liked]) -> list[Liked]:
    """Up to four, the most alike first; equally alike ones in their order."""
    known = Counter(word for asked, _ in liked for word in _words(asked))

    def alike(one: Liked) -> float:
        shared = _words(question) & _words(one[0])
        return sum(math.log(1 + len(liked) / known[word]) for word in shared)

    return sorted(liked, key=alike, reverse=True)[:SHOWN]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.lower()))
