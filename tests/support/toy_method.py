"""A training method of one file, as the test of extending adds it: imitate what people liked."""

from __future__ import annotations

from feedback.types import Label, Snapshot
from trainer.methods.method import Encoded, Method, Recipe, Row
from trainer.types import Hyperparameters


class Imitation(Method[Label]):
    """Raises the likelihood of liked answers, each in turn."""

    name = "imitation"
    needs = "answers people liked"

    def examples(self, snapshot: Snapshot) -> list[Label]:
        return [label for label in snapshot.train_labels if label.desirable]

    def completions(self, example: Label) -> tuple[str, ...]:
        return (example.completion,)

    def rows(self, examples: Encoded[Label], hyperparameters: Hyperparameters) -> list[Row]:
        count = hyperparameters.steps * hyperparameters.batch_size
        turns = (examples[turn % len(examples)][1] for turn in range(count))
        return [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in turns]

    def recipe(self, examples: Encoded[Label], hyperparameters: Hyperparameters) -> Recipe:
        from trl import SFTConfig, SFTTrainer

        return Recipe(SFTTrainer, SFTConfig, {})
