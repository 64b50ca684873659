"""One page of a list, as every store yields it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list, newest first; the last item's id is the next page's cursor."""

    items: tuple[Item, ...]
    has_more: bool
