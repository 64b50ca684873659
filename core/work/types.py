"""The nouns of durable work: a piece, its log, and what tells one kind from another.

Must not know any kind: what only one kind has lies in its `facts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from core.errors import Conflict, NotFound
from core.ids import AdapterId, TenantId

Facts = TypeVar("Facts")
"""What one kind knows of a piece beyond what all share: a frozen dataclass."""


@dataclass(frozen=True, slots=True)
class Spec(Generic[Facts]):
    """What the ledger must know of a kind.

    `name` is stored and names the durable workflow and its queue: the same for ever. `active`
    are the states under way in order, the first when queued; `ended` those after it and how one
    tells of them ("is ready"), `failed` and `cancelled` among them. `noun` and its plural are
    the words for a piece, `prefix` begins its id, `hint` ends the words for one that is missing.
    """

    name: str
    noun: str
    prefix: str
    active: tuple[str, ...]
    ended: Mapping[str, str]
    facts: type[Facts]
    hint: str = ""

    @property
    def plural(self) -> str:
        """The word for many: the collection over HTTP, the folder under the home."""
        return f"{self.noun}s"

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, in order."""
        return (*self.active, *self.ended)

    def missing(self, work_id: str) -> NotFound:
        """What to raise where there is no such piece."""
        return NotFound(f"No {self.noun} {work_id[:80]!r}.{self.hint}", param=f"{self.noun}_id")

    def conflict(self, ended: Work[Facts], what: str) -> Conflict:
        """What to raise where an ended piece stands in the way."""
        told = self.ended[ended.state]
        return Conflict(f"{self.noun.capitalize()} {ended.id} {what}: it {told}.")


@dataclass(frozen=True, slots=True)
class Work(Generic[Facts]):
    """One piece of work. Times in seconds since the epoch, `progress` from 0 to 1."""

    id: str
    tenant_id: TenantId
    adapter_id: AdapterId | None
    state: str
    progress: float
    message: str
    error: str | None
    created_at_s: float
    updated_at_s: float
    finished_at_s: float | None
    cancel_requested_at_s: float | None
    facts: Facts

    @property
    def is_active(self) -> bool:
        """Whether it is still under way."""
        return self.finished_at_s is None


@dataclass(frozen=True, slots=True)
class WorkEvent:
    """One line of a piece's log: a message for people or a set of figures."""

    id: int
    at_s: float
    type: Literal["message", "metrics"]
    message: str
    data: Mapping[str, Any]
