"""What a kind of durable work is: one class in its own room, named once in the registry of kinds.

The server makes routes from it, the worker carries its pieces out; neither knows any kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar

import msgspec
from pydantic import BaseModel, Field

from core.bodies import Body, Resource, says
from core.database import Database
from core.errors import NotFound
from core.identity.types import Scope
from core.ids import Digest, TenantId
from core.settings import Settings
from core.work.ledger import Ledger
from core.work.types import Facts, Spec, Work

Order = TypeVar("Order", bound=Body)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """The installation that work is ordered and carried out in."""

    settings: Settings
    database: Database
    served_name: str  # what clients call the base model
    base: str  # the base model's folder or name


class Listing(BaseModel):
    """Which pieces to list; a kind adds its filters."""

    after: str | None = Field(None, description="The last id of the page before.")
    limit: Annotated[
        int, Field(ge=1, le=200), says("limit must be a whole number from 1 to 200.")
    ] = 20


class Durable(Protocol):
    """Makes a method a step that is remembered: after a crash what it returned is known."""

    def __call__(self, method: Callable[P, R]) -> Callable[P, R]: ...


class Kind(ABC, Generic[Facts, Order]):
    """One kind of work at one place.

    `order` is the body that asks for a piece, `listing` the filters of the list, `view` a piece
    as HTTP shows it, made of fields of `Work` and of the facts. Whoever has a scope of `readers`
    may look; ordering needs `train`.
    Importing a kind and making one must load nothing heavy: the server does both.
    """

    spec: ClassVar[Spec[Any]]
    order: ClassVar[type[Body]]
    listing: ClassVar[type[Listing]]
    view: ClassVar[type[Resource]]
    readers: ClassVar[tuple[Scope, ...]] = ("train",)
    has_files: ClassVar[bool] = False
    step_prefix: ClassVar[str] = ""
    """Begins the names of its durable steps, which must differ between kinds."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.ledger: Ledger[Facts] = Ledger(place.database, self.spec)

    @abstractmethod
    def open(self, tenant_id: TenantId, order: Order) -> Work[Facts]:
        """Queue what is ordered, or yield what answers it already.

        Raises Invalid, NotFound or Conflict for what cannot be done.
        """

    @abstractmethod
    def workflow(self, durable: Durable) -> Callable[[str], object]:
        """How one piece is carried out, given its id: calls of steps made `durable`, in order.

        A step may be called again after a crash, also on another machine, so it must find or
        redo its own earlier work; what it leaves behind belongs in the stores. An AttuneError
        ends the piece; Conflict `cancelled` as cancelled.
        """

    def present(self, work: Work[Facts]) -> Resource:
        """The piece as HTTP shows it: the `view` of what all work shares and of its facts."""
        values = msgspec.to_builtins(work)
        return self.view.model_validate({**values, **values["facts"]})

    def where(self, tenant_id: TenantId, asked: Mapping[str, Any]) -> Mapping[str, str | None]:
        """The filters of a `listing` as the ledger's columns."""
        return asked

    def file(self, work: Work[Facts], path: str) -> tuple[Path, Digest]:
        """A file of an ended piece, for kinds with `has_files`: where it lies, and its hash."""
        raise NotFound(f"{self.spec.noun.capitalize()} {work.id} has no such file.", param="path")

    def given_out(self, tenant_id: TenantId, model: str) -> frozenset[str]:
        """The digests under which finished pieces of the tenant hold `model` for devices."""
        return frozenset()

    def prepare(self) -> None:
        """Make the worker ready before its first look."""

    def look(self) -> None:
        """Open what is due by itself. Called several times a second: cheap when nothing is."""

    def folder(self, work_id: str) -> Path:
        """Where a piece keeps its files until it ends; the worker removes it then."""
        return self.place.settings.home.resolve() / self.spec.plural / work_id
