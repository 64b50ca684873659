"""Kinds of limits a parameter may have, each with the words that tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from core.errors import Invalid

SCALAR_CHARS = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """What limits depend on: the model's length, and whether the operator named hosts from which
    media may be fetched."""

    max_model_len: int
    fetches_media: bool = False


class Bound(Protocol):
    """What a parameter may be. Null always stands for a parameter that is left out."""

    @property
    def told(self) -> str:
        """The limit in words."""

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """Raises Invalid that names `param`, the limit and what to do."""


def refuse(param: str, rule: str) -> Invalid:
    """A value outside its limit."""
    return Invalid(f"{param}: {rule}", param=param[:200])


@dataclass(frozen=True, slots=True)
class Scalar:
    """A flag, a number or a short word; whether it makes sense the engine says at no cost."""

    told: str = f"one value of at most {SCALAR_CHARS} characters"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if isinstance(value, dict | list) or (isinstance(value, str) and len(value) > SCALAR_CHARS):
            raise refuse(param, f"{self.told} is taken; shorten it.")


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false, and not a word that the engine would read as one."""

    told: str = "true or false"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if not isinstance(value, bool):
            raise refuse(param, "must be true or false.")


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number of a range. As a number: the engine would also read "3" as 3."""

    least: int
    most: int

    @property
    def told(self) -> str:
        """See `Bound`."""
        return f"{self.least:,} to {self.most:,}"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise refuse(param, f"must be a whole number from {self.told}.")
        if not self.least <= value <= self.most:
            raise refuse(param, f"must be from {self.told}.")


@dataclass(frozen=True, slots=True)
class Text:
    """One text."""

    chars: int

    @property
    def told(self) -> str:
        """See `Bound`."""
        return f"at most {self.chars:,} characters"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if not isinstance(value, str):
            raise refuse(param, "must be a string.")
        if len(value) > self.chars:
            raise refuse(param, f"{self.told} are taken; shorten it.")


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of texts, or one."""

    count: int
    chars: int
    total: int

    @property
    def told(self) -> str:
        """See `Bound`."""
        each = f"at most {self.count:,} strings of at most {self.chars:,} characters"
        return f"{each}, {self.total:,} together" if self.total < self.count * self.chars else each

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise refuse(param, "must be strings.")
        lengths = [len(text) for text in texts]
        if len(texts) > self.count or max(lengths, default=0) > self.chars:
            raise refuse(param, f"{self.told} are taken; leave some out or shorten them.")
        if sum(lengths) > self.total:
            raise refuse(param, f"{self.told} are taken; leave some out or shorten them.")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A list of numbers, or an object of them. `least`: whole ones from there on."""

    count: int
    least: int | None = None

    @property
    def told(self) -> str:
        """See `Bound`."""
        return f"at most {self.count:,} entries"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if not isinstance(value, dict | list):
            raise refuse(param, "must hold numbers.")
        if len(value) > self.count:
            raise refuse(param, f"{self.told} are taken; leave some out.")
        if self.least is not None:
            check_ids(value, param, self.least)
        elif not all(isinstance(n, int | float) for n in _values(value)):
            raise refuse(param, "must hold numbers.")


@dataclass(frozen=True, slots=True)
class Json:
    """Anything, by the size of its JSON; without some names on its first level."""

    size_bytes: int
    without: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """See `Bound`."""
        size = f"at most {self.size_bytes:,} bytes of JSON"
        return f"{size}, without {', '.join(self.without)}" if self.without else size

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if len(msgspec.json.encode(value)) > self.size_bytes:
            raise refuse(param, f"at most {self.size_bytes:,} bytes of JSON are taken; send less.")
        for name in self.without:
            if isinstance(value, dict) and name in value:
                raise refuse(f"{param}.{name}", "is the operator's to set; leave it out.")


@dataclass(frozen=True, slots=True)
class Object:
    """An object, by its fields; the engine reads no others in it."""

    fields: dict[str, Bound]
    told: str = "by its fields"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if not isinstance(value, dict):
            raise refuse(param, "must be an object.")
        for name, bound in self.fields.items():
            if value.get(name) is not None:
                bound.check(value[name], f"{param}.{name}", limits)


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a completion goes on from: a text, token ids, or a list of either."""

    count: int
    tokens: int

    @property
    def told(self) -> str:
        """See `Bound`."""
        return f"at most {self.count:,} prompts, {self.tokens:,} token ids together"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if not isinstance(value, list):
            if not isinstance(value, str):
                raise refuse(param, "must be text, token ids, or a list of either.")
            return
        if prompt_count(value) > self.count:
            raise refuse(param, f"{self.told} are taken; send several requests.")
        lists = [entry for entry in value if isinstance(entry, list)]
        ids = [entry for entry in value if not isinstance(entry, list | str)]
        if len(ids) + sum(map(len, lists)) > self.tokens:
            raise refuse(param, f"{self.told} are taken; send several requests.")
        for each in (ids, *lists):
            check_ids(each, param, 0)


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing but what leaves it out: null, 0, an empty list or object."""

    why: str

    @property
    def told(self) -> str:
        """See `Bound`."""
        return f"refused: {self.why}"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if value not in (0, "", [], {}):
            raise Invalid(f"{param}: {self.why}.", param=param, code="unsupported_parameter")


@dataclass(frozen=True, slots=True)
class Ours:
    """The server sets it by itself; what the client sends does not reach the engine."""

    told: str = "set by the server; what a client sends is left out"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""


def check_ids(value: Any, param: str, least: int) -> None:
    """Raises Invalid if these are not all whole numbers from `least` on."""
    if not all(type(n) is int and n >= least for n in _values(value)):
        raise refuse(param, f"must hold whole numbers from {least} on.")


def prompt_count(prompt: Any) -> int:
    """How many prompts these are: a list of numbers is one."""
    is_list = isinstance(prompt, list) and bool(prompt)
    return len(prompt) if is_list and isinstance(prompt[0], str | list) else 1


def _values(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
