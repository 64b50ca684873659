"""Owns the invented town as its data files tell it: pools of words, intents and their lookups.

``words.json`` names pools; ``intents.json`` says which pools fill an intent's slots. A pool may be
written as a pattern in braces. Numbers always have two digits, so that each is one token, and
always carry their noun (``desk 14``), so that two numbers cannot be mistaken for one another.
Must not know: styles, how questions are drawn, torch.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def read_data(name: str) -> Any:
    """What the world's data file `name` holds."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text())


def expand(pattern: str) -> tuple[str, ...]:
    """Everything a pattern stands for, braces as in a shell, both ends included.

    ``{15..25..5} minutes`` is 15, 20 and 25 minutes; ``order {B,D}{10..99}`` is B10 to D99.
    """
    before, brace, rest = pattern.partition("{")
    if not brace:
        return (pattern,)
    inner, _, after = rest.partition("}")
    options = inner.split(",")
    if ".." in inner:
        first, last, *step = (int(number) for number in inner.split(".."))
        options = [str(number) for number in range(first, last + 1, *step)]
    return tuple(f"{before}{option}{end}" for option in options for end in expand(after))


# By its number's tens ``number 47`` is 4, by its parity odd.
_KEYS: dict[str, Callable[[str], str]] = {
    "value": str,
    "tens": lambda value: value[-2],
    "parity": lambda value: "odd" if int(value[-1]) % 2 else "even",
}


@dataclass(frozen=True, slots=True)
class Lookup:
    """A fact that follows from one slot: `values` indexed by a stable hash of the slot's key."""

    slot: str
    values: tuple[str, ...]
    key: Callable[[str], str]

    def value(self, table: str, slot_value: str) -> str:
        """The value that table `table` holds for `slot_value`, the same on every machine."""
        entry = f"{table}/{self.key(slot_value)}"
        return self.values[zlib.crc32(entry.encode()) % len(self.values)]


@dataclass(frozen=True, slots=True)
class Intent:
    """One kind of question. Every `says` template names the same slots and lookups: the facts."""

    name: str
    slots: dict[str, tuple[str, ...]]
    lookups: dict[str, Lookup]
    asks: tuple[str, ...]
    says: tuple[str, ...]


def _read_intents() -> tuple[Intent, ...]:
    words: dict[str, list[str] | str] = read_data("words")

    def pool(name: str) -> tuple[str, ...]:
        found = words.get(name, name)
        return expand(found) if isinstance(found, str) else tuple(found)

    def lookup(row: dict[str, str]) -> Lookup:
        return Lookup(row["of"], pool(row["values"]), _KEYS[row.get("by", "value")])

    return tuple(
        Intent(
            row["name"],
            {slot: pool(name) for slot, name in row["slots"].items()},
            {name: lookup(fact) for name, fact in row["lookups"].items()},
            tuple(row["asks"]),
            tuple(row["says"]),
        )
        for row in read_data("intents")
    )


INTENTS = _read_intents()
