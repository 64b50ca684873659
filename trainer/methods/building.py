"""TRL's trainer for one training: laid out so that it fits, on rows the reference has read.

Must not know: what is done with what it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback

from core.errors import Invalid
from trainer.methods.fitting import ENOUGH_TOKENS, Fit, fit, measure, work_of
from trainer.methods.method import Recipe, Row
from trainer.methods.prepared import Layout, keep_less, prepared
from trainer.methods.reference import with_reference
from trainer.model.precision import in_bfloat16
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters


def build(
    model: WarmModel,
    peft: Any,
    hyperparameters: Hyperparameters,
    recipe: Recipe,
    rows: Sequence[Row],
    scratch: Path,
    *,
    on_fit: Callable[[Fit], None],
    most_s: float,
) -> Any:
    """TRL's trainer, laid out so that it fits, with what the reference says of every row.

    `on_fit` is told the layout. Raises Invalid where there is none that fits, or where it would
    take more than `most_s`.
    """
    a_step = len(rows) // hyperparameters.steps
    layout = Layout(a_step, min(a_step, hyperparameters.kl_rows), 0, False, model.threads)
    bf16 = in_bfloat16(model.device, model.parameters, hyperparameters.precision)
    settings = _settings(scratch, hyperparameters, model.device.type, a_step) | {"bf16": bf16}
    trainer = prepared(recipe, layout)(
        args=recipe.config(**settings, **recipe.settings),
        train_dataset=Dataset.from_list(rows),
        model=peft,
        processing_class=model.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    # TRL clones the starting adapter as its frozen reference, where it has one. Without the clone
    # it refers to the model with adapters off: the base, every round's anchor.
    if "ref" in peft.peft_config:
        peft.delete_adapter("ref")
    if not hyperparameters.precompute or recipe.loss_is == "whole":
        return trainer
    with trainer.accelerator.autocast():
        fitted = _fit(model, peft, hyperparameters, recipe, rows)
    _require_time(fitted, most_s)
    on_fit(fitted)
    layout.tokens_at_once, layout.checkpointing = fitted.tokens_at_once, fitted.checkpointing
    if layout.checkpointing:
        keep_less(peft)
    if recipe.reference:
        with peft.disable_adapter(), trainer.accelerator.autocast():
            known = with_reference(
                rows,
                recipe.reference,
                peft.get_base_model(),
                model.tokenizer.pad_token_id,
                fitted.tokens_at_once,
                model.threads,
            )
        trainer.train_dataset = Dataset.from_list(known)
        # TRL's own pass, which `precompute_ref_log_probs` orders, visits every row, and hashes
        # the whole model first.
        trainer.precompute_ref_logps = True
    return trainer


def _fit(
    model: WarmModel,
    peft: Any,
    hyperparameters: Hyperparameters,
    recipe: Recipe,
    rows: Sequence[Row],
) -> Fit:
    a_step = len(rows) // hyperparameters.steps
    kl_share = (hyperparameters.kl_rows or a_step) / a_step
    return fit(
        measure(peft, model.vocabulary, model.threads.adapt),
        work_of(rows, tuple(recipe.reference.values()), kl_share),
        model.free_bytes(),
        hyperparameters.tokens_at_once or ENOUGH_TOKENS[model.device.type],
        hyperparameters.gradient_checkpointing,
    )


def _require_time(fitted: Fit, most_s: float) -> None:
    if fitted.seconds > most_s:
        raise Invalid(
            f"This training would take about {fitted.seconds / 3600:.1f} hours on this machine, "
            f"over ATTUNE_TRAINER_MAX_S ({most_s:.0f}). Lower ATTUNE_TRAIN_STEPS or "
            "ATTUNE_TRAIN_BATCH_SIZE, train on a GPU (ATTUNE_TRAINER_DEVICE), or allow more.",
            param="steps",
        )


def _settings(
    scratch: Path, hyperparameters: Hyperparameters, device: str, a_step: int
) -> dict[str, Any]:
    return {
        "output_dir": str(scratch),
        "learning_rate": hyperparameters.learning_rate,
        "lr_scheduler_type": "linear",
        "max_steps": hyperparameters.steps,
        "per_device_train_batch_size": a_step,
        "max_length": hyperparameters.max_length,
        "seed": hyperparameters.seed,
        # The rows arrive in the order they are to be seen in.
        "train_sampling_strategy": "sequential",
        "use_cpu": device == "cpu",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
