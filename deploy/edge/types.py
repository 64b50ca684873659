"""The device's nouns: how to sample, an answer in the making, one given, a thing said about one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

from deploy.edge.installed import Variant

Message = dict[str, Any]
"""`role` and `content`, both text."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens; None is what the export's own settings say.

    `temperature` 0 is greedy. `top_k` 0 is off.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Speech(Protocol):
    """One answer in the making: iterate for its text, piece by piece, never half a character.

    The rest is final once the iteration has ended. `finish_reason` is "stop", "length", or
    "cancelled" where it was told to end. `prompt` are the token ids the model read, `token_ids`
    those it sampled, the one that ends the answer among them. Times in milliseconds since the
    start.
    """

    text: str
    finish_reason: str
    first_token_ms: float | None
    duration_ms: float

    @property
    def prompt(self) -> Sequence[int]: ...

    @property
    def token_ids(self) -> Sequence[int]: ...

    def __iter__(self) -> Iterator[str]: ...


class Speaker(Protocol):
    """What makes answers: the engine. For one thread at a time."""

    def start(
        self,
        variant: Variant,
        messages: Sequence[Message],
        sampling: Sampling,
        gone: Event | None = None,
    ) -> Speech:
        """Begin an answer, which ends before the next token once `gone` is set.

        Raises Invalid (code `context_length_exceeded`) if there is no room.
        """


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer given on this device. Times in seconds since the epoch, or milliseconds."""

    id: str
    created_at_s: float
    model_requested: str
    model_answered: str
    adapter: str | None
    version: int | None
    export_digest: str
    messages: tuple[Mapping[str, Any], ...]
    answer: str
    finish_reason: str
    user: str | None = None
    domain: str | None = None
    conversation_id: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_ms: float | None = None
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """One thing said about an answer of this device."""

    id: str
    completion_id: str
    created_at_s: float
    name: str
    value: bool | float | str | None = None
    comment: str | None = None
    correction: str | None = None
    user: str | None = None
