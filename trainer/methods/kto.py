"""KTO: learning from thumbs, each on its own answer (Ethayarajh et al. 2024)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from adapters.types import Learning
from core.errors import Invalid
from feedback.types import Pair, Snapshot
from trainer.methods.method import Encoded, Judged, Method, Recipe, Row, interleaved_passes
from trainer.model.encoding import Tokens
from trainer.types import Hyperparameters, Prompt

_LIKED_PULL = 2.5


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

    def judged(self, example: Thumb, tokens: Tokens) -> Judged:
        """The answer on the side of its thumb."""
        prompt, completion = tokens
        answer = ((prompt, completion),)
        return Judged(liked=answer) if example.desirable else Judged(disliked=answer)

    def rows(self, examples: Encoded[Thumb], hyperparameters: Hyperparameters) -> list[Row]:
        """Both kinds spread evenly over each pass; Invalid unless both are there.

        The KL term is estimated on each prompt with the completion of another example, the same
        one at every visit, so that the reference reads it once.
        """
        order = list(range(len(examples)))
        random.Random(hyperparameters.seed).shuffle(order)
        other = {place: examples[order[at - 1]][1][1] for at, place in enumerate(order)}
        found = [
            {
                "prompt_ids": prompt,
                "completion_ids": completion,
                "KL_completion_ids": other[place][: hyperparameters.max_length - len(prompt)],
                "label": thumb.desirable,
            }
            for place, (thumb, (prompt, completion)) in enumerate(examples)
        ]
        ups = [row for row in found if row["label"]]
        downs = [row for row in found if not row["label"]]
        if not ups or not downs:
            raise Invalid(
                f"KTO needs {self.needs}; there are {len(ups)} and {len(downs)}. Collect feedback "
                "of the missing kind."
            )
        size = max(2, hyperparameters.batch_size)
        return interleaved_passes(ups, downs, size * hyperparameters.steps, hyperparameters.seed)

    def recipe(self, examples: Encoded[Thumb], hyperparameters: Hyperparameters) -> Recipe:
        """The KTO loss, with the kinds of label weighted so that the liked ones pull harder."""
        from trl import KTOConfig, KTOTrainer

        ups = sum(thumb.desirable for thumb, _ in examples)
        desirable_weight, undesirable_weight = label_weights(ups, len(examples) - ups)
        settings = {
            "loss_type": "kto",
            "beta": hyperparameters.beta,
            "desirable_weight": desirable_weight,
            "undesirable_weight": undesirable_weight,
        }
        reference = {"ref_logps": "completion_ids", "ref_KL_logps": "KL_completion_ids"}
        return Recipe(KTOTrainer, KTOConfig, settings, reference, "mean of rows")


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
    """Loss weights of desirable and undesirable labels; the smaller one is 1.

    All liked answers together pull `_LIKED_PULL` times as hard as all disliked ones. Those tell
    only what not to say: where they pull as hard, a model begins to say what nobody ever saw.

    Source: Ethayarajh et al. 2024, KTO, equation 8, which has 1 to 1.33 for this; docs/training.md
    has what was measured.
    """
    up, down = _LIKED_PULL * downs / ups, 1.0
    return max(1.0, up / down), max(1.0, down / up)
