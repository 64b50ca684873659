"""KTO: learning from thumbs, each on its own answer (Ethayarajh et al. 2024).

Owns how labels become TRL's rows. Must not know: where the adapter starts or goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from core.errors import Invalid
from feedback.types import Label
from trainer.methods.rows import interleaved_passes, label_weights
from trainer.types import Hyperparameters

Tokens = tuple[list[int], list[int]]


class _Kto(KTOTrainer):
    """TRL's trainer on rows that are tokenised, ordered and paired for the KL term already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def build(
    labels: Sequence[tuple[Label, Tokens]],
    settings: dict[str, Any],
    hyperparameters: Hyperparameters,
    **trainer: Any,
) -> KTOTrainer:
    """A trainer over `labels` with their token ids; Invalid unless both kinds are there."""
    ups = [tokens for label, tokens in labels if label.desirable]
    downs = [tokens for label, tokens in labels if not label.desirable]
    if not ups or not downs:
        raise Invalid(
            f"KTO needs answers people liked and answers they did not; there are {len(ups)} and "
            f"{len(downs)}. Collect feedback of the missing kind."
        )
    desirable_weight, undesirable_weight = label_weights(len(ups), len(downs))
    size = max(2, hyperparameters.batch_size)
    marked = ([(tokens, True) for tokens in ups], [(tokens, False) for tokens in downs])
    rows = interleaved_passes(*marked, size * hyperparameters.steps, hyperparameters.seed)
    return _Kto(
        args=KTOConfig(
            **settings,
            loss_type="kto",
            beta=hyperparameters.beta,
            desirable_weight=desirable_weight,
            undesirable_weight=undesirable_weight,
            per_device_train_batch_size=size,
        ),
        train_dataset=Dataset.from_list(_rows(rows, size)),
        **trainer,
    )


def _rows(rows: Sequence[tuple[Tokens, bool]], size: int) -> list[dict[str, Any]]:
    # The KL term is estimated on each prompt with its neighbour's completion, within a batch.
    found = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        for place, ((prompt, completion), desirable) in enumerate(batch):
            (_, mismatched), _ = batch[place - 1]
            found.append(
                {
                    "prompt_ids": prompt,
                    "completion_ids": completion,
                    "KL_completion_ids": mismatched,
                    "label": desirable,
                }
            )
    return found
