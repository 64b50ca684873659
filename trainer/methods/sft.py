"""SFT: learning from demonstrations, answers as they should have been (Ouyang et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.types import Snapshot
from trainer.methods.method import Encoded, Method, Recipe, Row, passes
from trainer.types import Hyperparameters, Prompt

_NO_LOSS = -100
"""The label TRL leaves out of the loss."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer as it should have been."""

    prompt: Prompt
    completion: str
    ids: tuple[bytes, bytes] | None = None


class Sft(Method[Demonstration]):
    """Raises the likelihood of demonstrations, of their completions alone; knows no reference.

    An adapter asks for it by name: without an answer to compare with, a demonstration says less
    than the pair it comes from.
    """

    name = "sft"
    needs = "corrections"

    def examples(self, snapshot: Snapshot) -> list[Demonstration]:
        """The corrected answers: what somebody wrote, not what the model said."""
        return [
            Demonstration(pair.prompt, pair.chosen, pair.ids and pair.ids[:2])
            for pair in snapshot.train_pairs
            if pair.origin == "correction"
        ]

    def completions(self, example: Demonstration) -> tuple[str, ...]:
        """The demonstrated answer."""
        return (example.completion,)

    def rows(self, examples: Encoded[Demonstration], hyperparameters: Hyperparameters) -> list[Row]:
        """Whole passes, each in a new order; the prompt is read, not learnt."""
        count = hyperparameters.batch_size * hyperparameters.steps
        ordered = passes([tokens for _, tokens in examples], count, hyperparameters.seed)
        return [
            {"input_ids": prompt + completion, "labels": [_NO_LOSS] * len(prompt) + completion}
            for prompt, completion in ordered
        ]

    def recipe(self, examples: Encoded[Demonstration], hyperparameters: Hyperparameters) -> Recipe:
        """The mean negative log-likelihood of a step's completion tokens."""
        from trl import SFTConfig, SFTTrainer

        return Recipe(SFTTrainer, SFTConfig, {})
