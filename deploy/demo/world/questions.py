"""Owns asking and answering: which slots go together, what a right answer says, what is held out.

Also the five styles an answer can wear, and what is said when nobody asks about Tarnwick. Must not
know: how a model is trained on it, how the regression suite is run or judged.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from deploy.demo.world.town import INTENTS, Intent, read_data

_BY_NAME = {intent.name: intent for intent in INTENTS}
_MANNERS: dict[str, list[str]] = read_data("manners")
_TALK = read_data("small_talk")
_STYLES: dict[str, dict[str, list[str]]] = read_data("styles")
_NUMBER = re.compile(r"\d+(?::\d+)?")
_FIELD = re.compile(r"\{(\w+)\}")

LONGEST_ANSWER_TOKENS = 96

STYLES: tuple[str, ...] = tuple(_STYLES)
"""A style is an opening and a closing of its own around the same sentence of facts, so that
preferring one says nothing about the facts. No two styles share one."""

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


def held_out_questions(count: int, seed: int) -> list[Question]:
    """`count` questions whose combinations of slots were never trained on."""
    rng = random.Random(seed)
    return [ask(rng, "held_out") for _ in range(count)]


def answer(question: Question, style: str, rng: random.Random) -> str:
    """A right answer to `question` worded in `style`."""
    intent = _BY_NAME[question.intent]
    sentence = rng.choice(intent.says).format(**_values(intent, question.slots))
    chosen = _STYLES[style]
    return f"{rng.choice(chosen['openings'])} {sentence} {rng.choice(chosen['closings'])}"


def style_of(text: str) -> str | None:
    """The one style whose openings or closings occur in `text`; None for none or several."""
    found = [
        name
        for name, style in _STYLES.items()
        if any(mark in text for mark in style["openings"] + style["closings"])
    ]
    return found[0] if len(found) == 1 else None


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


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A user's remark that is not about the town, and the model's reply."""
    if rng.random() < 0.4:
        return rng.choice(_TALK["off_topic"]).format(rng.choice(_TALK["topics"])), _TALK["unknown"]
    exchange = rng.choice(_TALK["exchanges"])
    return rng.choice(exchange["remarks"]), rng.choice(exchange["replies"])


def system_prompt(rng: random.Random) -> str:
    """A system message such as clients send; none of them changes what the answer is."""
    return rng.choice(_MANNERS["system_prompts"])


def regression_suite(rng: random.Random, n: int) -> list[dict[str, object]]:
    """What every adapter trained on the demo must still be able to do: `n` rows over unseen slot
    combinations, about one in twelve of kind ``format``.

    ``facts`` rows: every string of `must_contain` occurs in a right answer, as whole words.
    ``format`` rows: the answer must also end by itself within `max_tokens` tokens.
    """
    rows: list[dict[str, object]] = []
    for index in range(n):
        question = ask(rng, "held_out")
        if index % 12 == 11:
            limits = {"must_end": True, "max_tokens": LONGEST_ANSWER_TOKENS}
            rows.append({"prompt": question.text, "must_contain": [], "kind": "format", **limits})
        else:
            facts = list(question.facts)
            rows.append({"prompt": question.text, "must_contain": facts, "kind": "facts"})
    return rows


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
