"""`rank_pattern` and `alpha_pattern` of an adapter whose keys are plain names. Pure.

PEFT and vLLM read each key as a regular expression for the end of a module's name, and the first
that fits counts. Where keys are names, or names joined by `|`, a lookup says the same, in a time
that does not grow with the number of keys. Source: peft 0.21, get_pattern_key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAME = r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*"
_PLAIN = re.compile(rf"{_NAME}(?:\|{_NAME})*")


def is_plain(key: str) -> bool:
    """Whether a key names modules, or the ends of their names, and nothing else."""
    return _PLAIN.fullmatch(key) is not None


class Pattern:
    """The values modules have of their own, by plain keys; other keys are passed over."""

    def __init__(self, given: Mapping[str, Any] | None) -> None:
        self._found: dict[str, tuple[int, Any]] = {}
        for order, (key, value) in enumerate((given or {}).items()):
            for name in key.split("|") if is_plain(key) else ():
                self._found.setdefault(name, (order, value))

    def first(self, module: str) -> tuple[int, Any] | None:
        """The place of the first key that names the module, and its value."""
        hits = (self._found.get(end) for end in _ends(module))
        return min((hit for hit in hits if hit), key=lambda hit: hit[0], default=None)

    def of(self, module: str, otherwise: Any) -> Any:
        """The module's own value, or `otherwise`."""
        hit = self.first(module)
        return otherwise if hit is None else hit[1]


def _ends(module: str) -> Iterator[str]:
    yield module
    while "." in module:
        module = module.partition(".")[2]
        yield module
