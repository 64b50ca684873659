"""DPO: learning from pairs, one answer preferred to another (Rafailov et al. 2023)."""

from __future__ import annotations

from adapters.types import Learning
from feedback.types import Pair, Snapshot
from trainer.methods.method import Encoded, Judged, Method, Recipe, Row, passes
from trainer.model.encoding import Tokens
from trainer.types import Hyperparameters


class Dpo(Method[Pair]):
    """A pair is two completions, so a step holds half of `batch_size` pairs."""

    name = "dpo"
    needs = "comparisons or corrections"

    def applies(self, snapshot: Snapshot, learning: Learning) -> bool:
        """Where pairs carry most of what was said.

        A pair says more than a label, so that pairs need only be half as many.
        """
        pairs = len(snapshot.train_pairs) + len(snapshot.held_out_pairs)
        labels = len(snapshot.train_labels) + len(snapshot.held_out_labels)
        return pairs >= learning.min_pairs and 2 * pairs >= labels

    def examples(self, snapshot: Snapshot) -> list[Pair]:
        """The pairs alone."""
        return list(snapshot.train_pairs)

    def completions(self, example: Pair) -> tuple[str, ...]:
        """The chosen answer and the rejected one."""
        return example.chosen, example.rejected

    def judged(self, example: Pair, tokens: Tokens) -> Judged:
        """The chosen answer is liked, the rejected one is not."""
        prompt, chosen, rejected = tokens
        return Judged(((prompt, chosen),), ((prompt, rejected),))

    def rows(self, examples: Encoded[Pair], hyperparameters: Hyperparameters) -> list[Row]:
        """Whole passes, each in a new order."""
        count = max(1, hyperparameters.batch_size // 2) * hyperparameters.steps
        ordered = passes([tokens for _, tokens in examples], count, hyperparameters.seed)
        return [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in ordered]

    def recipe(self, examples: Encoded[Pair], hyperparameters: Hyperparameters) -> Recipe:
        """The sigmoid loss, and a little of the likelihood of the chosen answer."""
        from trl import DPOConfig, DPOTrainer

        settings = {
            "loss_type": ["sigmoid", "sft"],
            "loss_weights": [1.0, hyperparameters.sft_weight],
            "beta": hyperparameters.beta,
        }
        reference = {"ref_chosen_logps": "chosen_ids", "ref_rejected_logps": "rejected_ids"}
        return Recipe(DPOTrainer, DPOConfig, settings, reference, "mean of pairs")
