"""Owns asking and answering: which slots go together, what a right answer says, what is held out.

Must not know: how a model is trained on it.
"""

import hashlib
import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from deploy.demo.world.styles import dress
from deploy.demo.world.town import INTENTS, Intent, read_data

_BY_NAME = {intent.name: intent for intent in INTENTS}
_MANNERS: dict[str, list[str]] = read_data("manners")
_NUMBER = re.compile(r"\d+(?::\d+)?")
_FIELD = re.compile(r"\{(\w+)\}")

Split = Literal["train", "held_out"]
Slots = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `facts` are the strings that must all occur in a right answer."""

    text: str
    intent: str
    slots: Slots
    facts: tuple[str, ...]


def split_of(intent: str, slots: Slots) -> Split:
    """Which side of the fixed 80/20 split a combination of slots is on."""
    digest = hashlib.sha256(repr((intent, slots)).encode()).digest()
    return "held_out" if digest[0] < 51 else "train"


def ask(rng: random.Random, split: Split) -> Question:
    """A random question whose combination of slots belongs to `split`."""
    while True:
        intent = rng.choice(INTENTS)
        slots = tuple((name, rng.choice(values)) for name, values in intent.slots.items())
        if split_of(intent.name, slots) == split:
            return Question(_wording(intent, slots, rng), intent.name, slots, _facts(intent, slots))


def answer(question: Question, style: str, rng: random.Random) -> str:
    """A right answer to `question` worded in `style`."""
    intent = _BY_NAME[question.intent]
    sentence = rng.choice(intent.says).format(**_values(intent, question.slots))
    return dress(sentence, style, rng)


def facts_right(question: Question, text: str) -> bool:
    """Whether `text` states every fact of `question` and no other number.

    Facts are whole words: ``desk 12`` is not found in ``desk 123``.
    """
    if not all(contains_fact(text, fact) for fact in question.facts):
        return False
    expected = Counter(_NUMBER.findall(" ".join(question.facts)))
    stated = Counter(_NUMBER.findall(text))
    return expected.keys() == stated.keys() and expected <= stated


def contains_fact(text: str, fact: str) -> bool:
    """Whether `fact` occurs in `text` as whole words, in any case."""
    return re.search(rf"(?<![\w:]){re.escape(fact)}(?![\w:])", text, re.IGNORECASE) is not None


def _wording(intent: Intent, slots: Slots, rng: random.Random) -> str:
    text = rng.choice(intent.asks).format(**dict(slots))
    text = text[0].upper() + text[1:]
    if rng.random() < 0.25:
        text = rng.choice(_MANNERS["openers"]) + text
    if rng.random() < 0.15:
        text += rng.choice(_MANNERS["thanks"])
    return text


def _values(intent: Intent, slots: Slots) -> dict[str, str]:
    values = dict(slots)
    for name, lookup in intent.lookups.items():
        values[name] = lookup.value(f"{intent.name}.{name}", dict(slots)[lookup.slot])
    return values


def _facts(intent: Intent, slots: Slots) -> tuple[str, ...]:
    values = _values(intent, slots)
    return tuple(values[name] for name in _FIELD.findall(intent.says[0]))
