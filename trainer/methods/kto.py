"""KTO: learning from thumbs, each on its own answer (Ethayarajh et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.types import Learning
from core.errors import Invalid
from feedback.types import Pair, Snapshot
from trainer.methods.method import Encoded, Method, Recipe, Row, interleaved_passes
from trainer.types import Hyperparameters, Prompt


@dataclass(frozen=True, slots=True)
class Thumb:
    """An answer, and whether it was liked."""

    prompt: Prompt
    completion: str
    desirable: bool
    ids: tuple[bytes, bytes] | None = None

    @property
    def key(self) -> object:
        """What is judged: equal for equal prompts and answers."""
        return self.ids or (str(self.prompt), self.completion)


class Kto(Method[Thumb]):
    """Learns from labels, and from pairs read as two labels each."""

    name = "kto"
    needs = "answers people liked and answers they did not"

    def applies(self, snapshot: Snapshot, learning: Learning) -> bool:
        """Always: it can read whatever was said."""
        return True

    def examples(self, snapshot: Snapshot) -> list[Thumb]:
        """The labels, and those of the pairs that say something new."""
        said = [
            Thumb(one.prompt, one.completion, one.desirable, one.ids)
            for one in snapshot.train_labels
        ]
        known = {thumb.key for thumb in said}
        return said + [
            thumb
            for pair in snapshot.train_pairs
            for thumb in _sides(pair)
            if thumb.key not in known
        ]

    def completions(self, example: Thumb) -> tuple[str, ...]:
        """The judged answer."""
        return (example.completion,)

    def rows(self, examples: Encoded[Thumb], hyperparameters: Hyperparameters) -> list[Row]:
        """Both kinds spread evenly over each pass; Invalid unless both are there.

        The KL term is estimated on each prompt with its neighbour's completion, within a batch.
        """
        ups = [(tokens, True) for thumb, tokens in examples if thumb.desirable]
        downs = [(tokens, False) for thumb, tokens in examples if not thumb.desirable]
        if not ups or not downs:
            raise Invalid(
                f"KTO needs {self.needs}; there are {len(ups)} and {len(downs)}. Collect feedback "
                "of the missing kind."
            )
        size = max(2, hyperparameters.batch_size)
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

    def recipe(self, examples: Encoded[Thumb], hyperparameters: Hyperparameters) -> Recipe:
        """The KTO loss, with the rarer kind of label weighted up."""
        from trl import KTOConfig, KTOTrainer

        ups = sum(thumb.desirable for thumb, _ in examples)
        desirable_weight, undesirable_weight = label_weights(ups, len(examples) - ups)
        settings = {
            "loss_type": "kto",
            "beta": hyperparameters.beta,
            "desirable_weight": desirable_weight,
            "undesirable_weight": undesirable_weight,
        }
        return Recipe(KTOTrainer, KTOConfig, settings)


def _sides(pair: Pair) -> tuple[Thumb, Thumb]:
    """The chosen answer as a liked one, the rejected as a disliked one."""
    good = bad = None
    if pair.ids is not None:
        prompt, chosen, rejected = pair.ids
        good, bad = (prompt, chosen), (prompt, rejected)
    return Thumb(pair.prompt, pair.chosen, True, good), Thumb(
        pair.prompt, pair.rejected, False, bad
    )


def label_weights(ups: int, downs: int) -> tuple[float, float]:
    """Loss weights of desirable and undesirable labels that let both kinds pull equally.

    The rarer kind is weighted by the ratio of counts, the other by 1.

    Source: Ethayarajh et al. 2024, KTO, equation 8 (lower end of its range).
    """
    return max(1.0, downs / ups), max(1.0, ups / downs)
