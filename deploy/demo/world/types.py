"""Owns the shapes of the invented town: pools of words, lookups, intents and questions.

Must not know: styles, the wording of particular intents, torch.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass


def same(value: str) -> str:
    """A lookup keyed by the slot value itself."""
    return value


def tens(value: str) -> str:
    """A lookup keyed by the tens digit of a numbered value: ``ticket 47`` -> ``4``."""
    return value[-2]


def parity(value: str) -> str:
    """A lookup keyed by whether a numbered value is even: ``seat 47`` -> ``odd``."""
    return "odd" if int(value[-1]) % 2 else "even"


@dataclass(frozen=True, slots=True)
class Lookup:
    """A fact that follows from one slot: `values` indexed by a stable hash of the slot's key."""

    slot: str
    values: tuple[str, ...]
    key: Callable[[str], str] = same

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


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `facts` are the strings that must all occur in a right answer."""

    text: str
    intent: str
    slots: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]
