"""What every way in for feedback is: one form of HTTP call, read into items and answered in kind.

A receiver is one file here and one line in `feedback/receivers/__init__.py`. It says where it
listens and in which words; the server mounts it, checks the key and the ids, and stores.
Knows nothing of HTTP frameworks, SQL or signatures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.bodies import check_text, invalid
from core.errors import AttuneError, Invalid
from core.http_errors import ErrorEnvelope, error_body
from core.identity.types import Scope
from core.ids import AdapterId, CompletionId, TenantId
from feedback.types import Change, Feedback, Interaction, Lesson

Sent = TypeVar("Sent")


class Caller(Protocol):
    """Who calls, when, and what reading an item may ask about what is theirs."""

    tenant_id: TenantId
    now_s: float
    key_id: str
    own_only: bool
    """Whether what other keys gave is out of reach."""

    def issued(self, completion_id: str) -> bool:
        """Whether the tenant was given an answer of this id."""
        ...

    def derived_id(self, *parts: str) -> CompletionId:
        """An id for an answer given elsewhere: always the same for the same parts."""
        ...

    def adapter_id(self, name: str, version: int | None) -> AdapterId:
        """The tenant's adapter of that name. NotFound if it, or that version, does not exist."""
        ...

    def require_device(self, device: str) -> None:
        """Raises Forbidden if the caller's key is another device's."""
        ...

    def was_given(self, model: str, digest: str) -> bool:
        """Whether the tenant has a finished export with `model` of that digest in it."""
        ...


class Part(BaseModel):
    """What comes in another's form: fields we do not know are passed over, nothing is converted.

    A device may be newer than its server, and an item that is refused is never sent again.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item, refused with an `error` or taken.

    `change` is None for a dry run and for a refused one. `lesson`: where the receiver tells it.
    """

    sent: Any
    item: Interaction | Feedback | None = None
    change: Change | None = None
    error: AttuneError | None = None
    lesson: Lesson | None = None

    def sent_field(self, name: str) -> Any:
        """A field of the item as it was sent; None if it has none of that name."""
        if isinstance(self.sent, dict):
            return self.sent.get(name)
        return getattr(self.sent, name, None)


class Receiver(ABC, Generic[Sent]):
    """One way in. The docstring of a receiver is what the API's description says of it."""

    name: ClassVar[str]
    path: ClassVar[str]
    body: ClassVar[Any]
    """The type of a call's body; wrap an item's type in `alone` to refuse items one by one."""
    answer: ClassVar[Any]
    """The type of the answer's body."""
    statuses: ClassVar[tuple[tuple[int, str], ...]] = ((200, "Stored."),)
    """The statuses an accepted call may be answered with, and what each means."""
    scope: ClassVar[Scope] = "feedback:write"
    """What a key needs."""
    auth: ClassVar[Literal["bearer", "basic"]] = "bearer"
    """How the key comes; by `basic` it is the password, whatever the user name."""
    max_items: ClassVar[int] = 200
    """How many items a call may bring."""
    max_bytes: ClassVar[int | None] = None
    """The largest body, if not the server's own limit."""
    newest_wins: ClassVar[bool] = False
    """Whether an item said earlier than the stored one of its id is passed over."""

    tells_lessons: ClassVar[bool] = False
    """Whether the answer tells what each item can teach: a few queries for each."""

    @abstractmethod
    def items(self, sent: Sent) -> Sequence[Any]:
        """The items of a call."""

    @abstractmethod
    def read(self, item: Any, sent: Sent, caller: Caller) -> Interaction | Feedback:
        """What one item states. Raises AttuneError naming the field."""

    @abstractmethod
    def respond(self, sent: Sent, results: Sequence[Result]) -> tuple[int, BaseModel]:
        """Status and body of the answer, from one result per item. An error raised is it too."""

    def giver(self, sent: Sent, caller: Caller) -> str:
        """Who gives the items, and alone may change them later. Forbidden for an impostor."""
        return caller.key_id

    def dry_run(self, sent: Sent) -> bool:
        """Whether the items are only to be checked."""
        return False

    def erased(self, feedback_id: str) -> BaseModel | None:
        """The answer to `DELETE path/{id}`; None if this receiver erases nothing."""
        return None

    def refusal(self, error: AttuneError) -> BaseModel:
        """The body of an error, a wrong key included."""
        return ErrorEnvelope(error=error_body(error))


def alone(value: Any, handler: Callable[[Any], Any]) -> Any:
    """For `WrapValidator`: what is wrong with an item refuses it, not the call it came with.

    An item that cannot be read becomes its `Result`.
    """
    try:
        item = handler(value)
        check_text(value)
    except ValidationError as error:
        return Result(value, error=invalid(error.errors()))
    except Invalid as error:
        return Result(value, error=error)
    return item
