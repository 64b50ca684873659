"""What a training method is: what it learns from, as which rows, by which of TRL's trainers.

Owns the orders in which rows are seen. Must not know: any method, where an adapter starts or goes.
"""

from __future__ import annotations

import random
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
    """Whatever a method learns from; each speaks of one prompt.

    `ids`: of the prompt and of each completion as they were served, as `feedback.token_ids` packs
    them; None where the texts are all there is.
    """

    @property
    def prompt(self) -> Prompt: ...

    @property
    def ids(self) -> tuple[bytes, ...] | None: ...


E = TypeVar("E", bound=Example)
T = TypeVar("T")

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
        """The texts it trains on, each an answer to the example's prompt.

        The example's `ids`, where it has them, are of these in this order and go before them.
        """

    @abstractmethod
    def rows(self, examples: Encoded[E], hyperparameters: Hyperparameters) -> list[Row]:
        """All rows of a training in the order they are seen, the same for the same seed.

        A step sees the same number each time: all of them by `hyperparameters.steps`.
        Raises Invalid when the examples, of which there is at least one, cannot teach.
        """

    @abstractmethod
    def recipe(self, examples: Encoded[E], hyperparameters: Hyperparameters) -> Recipe:
        """By what the rows are learnt."""


def passes(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` items: whole passes over `items`, each in a new random order."""
    rng = random.Random(seed)
    found: list[T] = []
    while len(found) < count:
        found += rng.sample(list(items), len(items))
    return found[:count]


def interleaved_passes(ups: Sequence[T], downs: Sequence[T], count: int, seed: int) -> list[T]:
    """Like `passes`, with both kinds spread evenly over each pass.

    Every stretch of a pass then holds both in the proportion of the whole, give or take one, so
    that no step sees one kind alone.
    """
    rng = random.Random(seed)
    found: list[T] = []
    while len(found) < count:
        placed = [
            ((place + rng.random()) / len(kind), item)
            for kind in (ups, downs)
            for place, item in enumerate(rng.sample(list(kind), len(kind)))
        ]
        found += [item for _, item in sorted(placed, key=lambda entry: entry[0])]
    return found[:count]
