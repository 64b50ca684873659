"""Prompts and answers by digest: what is judged is told apart without being held in memory.

A vote carries digests; whoever wants examples keeps each distinct text once and looks it up.
Every digest has two parts: what tells it apart from others, then what exactly is trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from feedback.types import Packed

Digest = bytes

_SHARE = 12
"""Bytes of a hash: a hundred thousand texts meet by chance once in 10^18 histories."""


class Text(NamedTuple):
    """A prompt or an answer: as people read it, and its token ids where they are known."""

    content: Any
    ids: Packed | None


def prompt_key(prompt: Any) -> str:
    """The prompt as canonical JSON: equal exactly for equal prompts."""
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def same_prompt(first: Digest, second: Digest) -> bool:
    """Whether two prompts are one: of equal ids, or of equal words where ids are not known."""
    return of_prompt(first) == of_prompt(second)


def of_prompt(digest: Digest) -> Digest:
    """The part of a prompt's digest that tells it apart."""
    return digest[:_SHARE]


def of_answer(digest: Digest) -> Digest:
    """The part of an answer's digest that tells it apart: one text may be of different ids."""
    return digest[: 2 * _SHARE]


def read_alike(first: Digest, second: Digest) -> bool:
    """Whether two answers are the same but for white space around them."""
    return first[:_SHARE] == second[:_SHARE]


class Texts:
    """Gives digests of prompts and answers; with `keep` it can say what they are of."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._known: dict[Digest, Text] = {}

    def prompt(self, prompt: Callable[[], Any], ids: Packed | None = None) -> Digest:
        """The digest of a prompt: told apart by its ids, without any by its words."""
        if ids is not None and not self._keep:
            return _hash(ids)  # most of what is read is asked for nothing else
        content = prompt()
        words = _hash(prompt_key(content).encode("utf-8", "surrogatepass"))
        own = words if ids is None else _hash(ids)
        return self._named(own + words, Text(content, ids))

    def answer(self, text: str, ids: Packed | None = None, *, plain: bool = True) -> Digest:
        """The digest of an answer: of what is in it, of it as it is, of its ids.

        One that is not `plain`, because more was sampled than its text shows, is told apart by
        its ids where it has some.
        """
        own = None if ids is None else _hash(ids)
        if plain or own is None:
            words = [text.strip(), text]
            told = b"".join(_hash(it.encode("utf-8", "surrogatepass")) for it in words)
        else:
            told = own + own
        return self._named(told + (own or b""), Text(text, ids))

    def of(self, digest: Digest) -> Text:
        """The prompt or the answer; only with `keep`."""
        return self._known[digest]

    def _named(self, digest: Digest, text: Text) -> Digest:
        if self._keep:
            self._known.setdefault(digest, text)
        return digest


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SHARE).digest()
