"""KTO: learning from thumbs, each on its own answer (Ethayarajh et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.types import Learning
from core.errors import Invalid
from feedback.types import Label, Pair, Snapshot
from trainer.methods.method import Encoded, Method, Recipe, Row, interleaved_passes
from trainer.types import Hyperparameters


class Kto(Method[Label]):
    """Learns from labels, and from pairs read as two labels each."""

    name = "kto"
    needs = "answers people liked and answers they did not"

    def applies(self, snapshot: Snapshot, learning: Learning) -> bool:
        """Always: it can read whatever was said."""
        return True

    def examples(self, snapshot: Snapshot) -> list[Label]:
        """The labels, and those of the pairs that say something new."""
        known = {(str(label.prompt), label.completion) for label in snapshot.train_labels}
        extra = pairs_as_labels(snapshot.train_pairs)
        new = [label for label in extra if (str(label.prompt), label.completion) not in known]
        return [*snapshot.train_labels, *new]

    def completions(self, example: Label) -> tuple[str, ...]:
        """The judged answer."""
        return (example.completion,)

    def rows(self, examples: Encoded[Label], hyperparameters: Hyperparameters) -> list[Row]:
        """Both kinds spread evenly over each pass; Invalid unless both are there.

        The KL term is estimated on each prompt with its neighbour's completion, within a batch.
        """
        ups = [(tokens, True) for label, tokens in examples if label.desirable]
        downs = [(tokens, False) for label, tokens in examples if not label.desirable]
        if not ups or not downs:
            raise Invalid(
                f"KTO needs {self.needs}; there are {len(ups)} and {len(downs)}. Collect feedback "
                "of the missing kind."
            )
        size = _size(hyperparameters)
        ordered = interleaved_passes(ups, downs, size * hyperparameters.steps, hyperparameters.seed)
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        return [
            {
                "prompt_ids": prompt,
                "completion_ids": completion,
                "KL_completion_ids": batch[place - 1][0][1],
                "label": desirable,
            }
            for batch in batches
            for place, ((prompt, completion), desirable) in enumerate(batch)
        ]

    def recipe(self, examples: Encoded[Label], hyperparameters: Hyperparameters) -> Recipe:
        """The KTO loss, with the rarer kind of label weighted up."""
        from trl import KTOConfig, KTOTrainer

        ups = sum(label.desirable for label, _ in examples)
        desirable_weight, undesirable_weight = label_weights(ups, len(examples) - ups)
        settings = {
            "loss_type": "kto",
            "beta": hyperparameters.beta,
            "desirable_weight": desirable_weight,
            "undesirable_weight": undesirable_weight,
            "per_device_train_batch_size": _size(hyperparameters),
        }
        return Recipe(KTOTrainer, KTOConfig, settings)


def label_weights(ups: int, downs: int) -> tuple[float, float]:
    """Loss weights of desirable and undesirable labels that let both kinds pull equally.

    The rarer kind is weighted by the ratio of counts, the other by 1.

    Source: Ethayarajh et al. 2024, KTO, equation 8 (lower end of its range).
    """
    return max(1.0, downs / ups), max(1.0, ups / downs)


def pairs_as_labels(pairs: Sequence[Pair]) -> list[Label]:
    """Each pair as two labels, so that KTO can learn from thumbs and comparisons at once."""
    return [
        Label(
            prompt=pair.prompt,
            completion=completion,
            desirable=desirable,
            version=pair.version,
            end_user=pair.end_user,
            at_s=pair.at_s,
            feedback_ids=pair.feedback_ids,
            interaction_ids=pair.interaction_ids,
        )
        for pair in pairs
        for completion, desirable in ((pair.chosen, True), (pair.rejected, False))
    ]


def _size(hyperparameters: Hyperparameters) -> int:
    return max(2, hyperparameters.batch_size)
