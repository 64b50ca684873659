"""The same pairs learnt twice: by TRL's own script for DPO with LoRA, and by the trainer here.

Owns TRL's documented settings. Must not know: files, accuracies.

Source: trl 1.16, `trl/scripts/dpo.py`, the LoRA command in its head (rate 5e-6, one pass, 2 pairs
times 8 accumulated, rank 32, alpha 16); what it does not name is `DPOConfig`'s and `ModelConfig`'s
default (beta 0.1, dropout 0.05, PEFT's modules).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.settings import Settings
from deploy.bench.preferences.reading import HumanPair
from feedback.types import Pair
from trainer.methods import METHODS
from trainer.runs.plan import hyperparameters

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

TRL: dict[str, Any] = {
    "learning_rate": 5e-6,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 8,
    "lora_r": 32,
    "lora_alpha": 16,
}


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter's folder, what the method was told, and what the training says of itself."""

    folder: Path
    settings: dict[str, Any]
    result: dict[str, Any]


def plain_trl(
    model: WarmModel, pairs: Sequence[HumanPair], out: Path, *, passes: int, longest: int, seed: int
) -> Trained:
    """TRL's `DPOTrainer` on the texts, told what its own script is told."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer, ModelConfig, get_peft_config

    lora = {name: value for name, value in TRL.items() if name.startswith("lora_")}
    told = {name: value for name, value in TRL.items() if name not in lora}
    settings = DPOConfig(
        output_dir=str(out),
        num_train_epochs=passes,
        max_length=longest,
        seed=seed,
        use_cpu=model.device.type == "cpu",
        bf16=model.device.type == "cuda",
        gradient_checkpointing=False,  # the same figures in less time
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **told,
    )
    began_s = time.monotonic()
    with model.borrow() as base:
        trainer = DPOTrainer(
            model=base,
            args=settings,
            train_dataset=Dataset.from_list([_row(pair) for pair in pairs]),
            processing_class=model.tokenizer,
            peft_config=get_peft_config(ModelConfig(use_peft=True, **lora)),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.model.save_pretrained(out, selected_adapters=["default"])
        steps = trainer.state.global_step
    result = {"steps": steps, "train_s": time.monotonic() - began_s}
    return Trained(out, {**TRL, "beta": settings.beta}, result)


def ours(
    model: WarmModel, pairs: Sequence[HumanPair], out: Path, *, passes: int, longest: int, seed: int
) -> Trained:
    """The trainer's DPO with the recipe it has for this model, over as many pairs."""
    from trainer.methods.loop import Training, train

    told = hyperparameters(Settings(), model.parameters)
    steps = max(1, -(-passes * len(pairs) // max(1, told.batch_size // 2)))
    told = replace(told, steps=steps, max_length=longest, seed=seed)
    examples = [
        Pair(pair.prompt, pair.chosen, pair.rejected, "comparison", None, None, 0.0, (), ())
        for pair in pairs
    ]
    made = train(model, Training(METHODS["dpo"], examples, told, out))
    return Trained(made.path, asdict(told), {**asdict(made), "path": out.name})


def _row(pair: HumanPair) -> dict[str, Any]:
    return {
        "prompt": [dict(message) for message in pair.prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }
