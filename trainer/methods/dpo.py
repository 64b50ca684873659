"""DPO: learning from pairs, one answer preferred to another (Rafailov et al. 2023).

Owns how pairs become TRL's rows. Must not know: where the adapter starts or goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from feedback.types import Pair
from trainer.methods.rows import passes
from trainer.types import Hyperparameters

Tokens = tuple[list[int], list[int], list[int]]


class _Dpo(DPOTrainer):
    """TRL's trainer on rows that are tokenised and ordered already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def build(
    pairs: Sequence[tuple[Pair, Tokens]],
    settings: dict[str, Any],
    hyperparameters: Hyperparameters,
    **trainer: Any,
) -> DPOTrainer:
    """A trainer over `pairs` with the ids of prompt, chosen and rejected.

    A pair is two completions, so a step holds half of `batch_size` pairs.
    """
    size = max(1, hyperparameters.batch_size // 2)
    rows = passes([t for _, t in pairs], size * hyperparameters.steps, hyperparameters.seed)
    return _Dpo(
        args=DPOConfig(
            **settings,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, hyperparameters.sft_weight],
            beta=hyperparameters.beta,
            per_device_train_batch_size=size,
        ),
        train_dataset=Dataset.from_list(
            [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in rows]
        ),
        **trainer,
    )
