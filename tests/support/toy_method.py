"""A training method of one file, as the test of extending adds it: imitate what people liked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedback.types import Label, Snapshot
from trainer.methods.method import Method, Row
from trainer.model.encoding import Tokens
from trainer.types import Hyperparameters


class Imitation(Method[Label]):
    """Raises the likelihood of liked answers, each in turn."""

    name = "imitation"
    needs = "answers people liked"

    def examples(self, snapshot: Snapshot) -> list[Label]:
        return [label for label in snapshot.train_labels if label.desirable]

    def completions(self, example: Label) -> tuple[str, ...]:
        return (example.completion,)

    def rows(
        self, examples: Sequence[tuple[Label, Tokens]], hyperparameters: Hyperparameters
    ) -> list[Row]:
        count = hyperparameters.steps * hyperparameters.batch_size
        turns = (examples[turn % len(examples)][1] for turn in range(count))
        return [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in turns]

    def recipe(
        self,
        examples: Sequence[tuple[Label, Tokens]],
        settings: dict[str, Any],
        hyperparameters: Hyperparameters,
    ) -> tuple[type[Any], Any]:
        from trl import SFTConfig, SFTTrainer

        size = hyperparameters.batch_size
        return SFTTrainer, SFTConfig(**settings, per_device_train_batch_size=size)
