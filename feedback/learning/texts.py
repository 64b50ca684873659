"""Prompts and answers by digest: what is judged is told apart without being held in memory.

A vote carries digests; whoever wants examples keeps each distinct text once and looks it up.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

Digest = bytes

_SHARE = 12
"""Bytes of a hash: a hundred thousand texts meet by chance once in 10^18 histories."""


def prompt_key(prompt: Any) -> str:
    """The prompt as canonical JSON: equal exactly for equal prompts."""
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def read_alike(first: Digest, second: Digest) -> bool:
    """Whether two answers are the same but for white space around them."""
    return first[:_SHARE] == second[:_SHARE]


class Texts:
    """Gives digests of prompts and answers; with `keep` it can say what they are of."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._known: dict[Digest, Any] = {}

    def prompt(self, prompt: Any) -> Digest:
        """The digest of a prompt: equal exactly for equal prompts."""
        return self._named(_hash(prompt_key(prompt)), prompt)

    def answer(self, text: str) -> Digest:
        """The digest of an answer: first of what is in it, then of it as it is."""
        return self._named(_hash(text.strip()) + _hash(text), text)

    def of(self, digest: Digest) -> Any:
        """The prompt or the answer; only with `keep`."""
        return self._known[digest]

    def _named(self, digest: Digest, content: Any) -> Digest:
        if self._keep:
            self._known.setdefault(digest, content)
        return digest


def _hash(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_SHARE).digest()
