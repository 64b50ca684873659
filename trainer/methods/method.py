"""What a training method is: what it learns from, as which rows, by which of TRL's trainers.

Must not know: any method, where an adapter starts or goes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from adapters.types import Learning
from feedback.types import Snapshot
from trainer.model.encoding import Tokens
from trainer.types import Hyperparameters, Prompt

Row = dict[str, Any]
"""One row of TRL's dataset, tokenised."""


class Example(Protocol):
    """Whatever a method learns from; each speaks of one prompt."""

    @property
    def prompt(self) -> Prompt: ...


E = TypeVar("E", bound=Example)

Encoded = Sequence[tuple[E, Tokens]]
"""Examples with the ids of their prompt and completions."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """TRL's trainer, its configuration, and what the method sets in it."""

    trainer: type[Any]
    config: type[Any]
    settings: Mapping[str, Any]


class Method(ABC, Generic[E]):
    """One way of learning from examples of type `E`. A subclass loads torch in `recipe` alone.

    The loop calls `completions` for each example, drops what is too long for the model, and
    gives the rest with their token ids to `rows`, then `recipe`.
    """

    name: ClassVar[str]
    """A short word; candidates go by it, and it is the key in the registry."""

    needs: ClassVar[str]
    """What it cannot do without, in words for whoever gives feedback."""

    def applies(self, snapshot: Snapshot, learning: Learning) -> bool:
        """Whether it is the one to use where an adapter leaves the choice to us."""
        return False

    @abstractmethod
    def examples(self, snapshot: Snapshot) -> list[E]:
        """What of the snapshot's training side it learns from."""

    @abstractmethod
    def completions(self, example: E) -> tuple[str, ...]:
        """The texts it trains on, each an answer to the example's prompt."""

    @abstractmethod
    def rows(self, examples: Encoded[E], hyperparameters: Hyperparameters) -> list[Row]:
        """All rows of a training in the order they are seen, the same for the same seed.

        Raises Invalid when the examples, of which there is at least one, cannot teach.
        """

    @abstractmethod
    def recipe(self, examples: Encoded[E], hyperparameters: Hyperparameters) -> Recipe:
        """By what the rows are learnt."""
