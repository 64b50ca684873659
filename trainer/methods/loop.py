"""One training: lend the base, attach the adapter, let TRL train it, write it down.

Owns what the methods share. Must not know: which method runs, what is done with the candidate.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, TrainerCallback

from core.errors import Conflict, Invalid
from core.files import appearing
from trainer.methods.folders import CONFIG, write_config
from trainer.methods.method import E, Method
from trainer.model.encoding import Tokens, tokens_of
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, OnProgress, Progress, Start, TrainResult


@dataclass(frozen=True, slots=True)
class Training(Generic[E]):
    """One candidate to train: by which method, from what, into the folder `out`.

    A `continued` start is from `live_adapter`, whose rank, alpha and modules it keeps. `stop` is
    asked after every step.
    """

    method: Method[E]
    examples: Sequence[E]
    hyperparameters: Hyperparameters
    out: Path
    start: Start = "fresh"
    live_adapter: Path | None = None
    on_progress: OnProgress = lambda _: None
    stop: Callable[[], bool] = lambda: False


def train(model: WarmModel, training: Training[Any]) -> TrainResult:
    """Train one candidate; its folder appears complete or not at all.

    The reference is always the base model, so that many rounds cannot drift away from it: a
    `fresh` candidate starts there too. The same training on the same machine gives the same
    weights. Raises Invalid when the examples cannot teach (none left, one kind of label only,
    diverged), Conflict with code "cancelled" once `stop()` is true.
    """
    method, hyperparameters = training.method, training.hyperparameters
    if training.start == "continued" and training.live_adapter is None:
        raise Invalid("There is no live version to continue from; start fresh.", param="start")
    examples, too_long, unreadable = _encoded(model, training)
    if not examples:
        raise Invalid(
            f"No example is left to learn from: {method.name.upper()} needs {method.needs}; "
            f"{too_long} were longer than {hyperparameters.max_length} tokens "
            f"(ATTUNE_TRAIN_MAX_LENGTH), {unreadable} were refused by the chat template."
        )
    rows = method.rows(examples, hyperparameters)
    recipe = method.recipe(examples, hyperparameters)
    watch = _StepWatch(hyperparameters.steps, training.on_progress, training.stop)
    began_s = time.monotonic()
    with appearing(training.out, replace=True) as scratch:
        with model.borrow() as base:
            peft = _attach(base, training)
            settings = _settings(scratch, hyperparameters, model.device.type, len(rows))
            trainer = _on_prepared_rows(recipe.trainer)(
                args=recipe.config(**settings, **recipe.settings),
                train_dataset=Dataset.from_list(rows),
                model=peft,
                processing_class=model.tokenizer,
                callbacks=[watch],
            )
            # TRL clones the starting adapter as its frozen reference, where it has one. Without
            # the clone it refers to the model with adapters off: the base, every round's anchor.
            if "ref" in peft.peft_config:
                peft.delete_adapter("ref")
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            watch.check()
            # Copies of the base beside an embedding's update say nothing, and are not taken.
            peft.save_pretrained(
                scratch, selected_adapters=["default"], save_embedding_layers=False
            )
        (scratch / "README.md").unlink(missing_ok=True)
        write_config(scratch, json.loads((scratch / CONFIG).read_text()))
    return TrainResult(
        path=training.out,
        method=method.name,
        start=training.start,
        steps=watch.step,
        train_s=time.monotonic() - began_s,
        final_loss=watch.loss,
        dropped_too_long=too_long,
        examples=len(examples),
        dropped_unreadable=unreadable,
    )


def _encoded(model: WarmModel, training: Training[E]) -> tuple[list[tuple[E, Tokens]], int, int]:
    """Examples with their token ids, and how many were too long or refused by the template.

    TRL itself drops prompts of `max_length` or more without a word and cuts longer answers.
    """
    found: list[tuple[E, Tokens]] = []
    too_long = unreadable = 0
    for example in training.examples:
        completions = training.method.completions(example)
        try:
            tokens = tokens_of(model.tokenizer, example.ids, example.prompt, *completions)
        except Invalid:
            unreadable += 1
            continue
        if len(tokens[0]) + max(map(len, tokens[1:])) > training.hyperparameters.max_length:
            too_long += 1
        else:
            found.append((example, tokens))
    return found, too_long, unreadable


def _on_prepared_rows(trainer: type[Any]) -> type[Any]:
    """TRL's trainer on rows that are tokenised, ordered and marked already."""

    class Prepared(trainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    return Prepared


def _attach(base: Any, training: Training[Any]) -> Any:
    if training.start == "continued":
        return PeftModel.from_pretrained(base, str(training.live_adapter), is_trainable=True)
    hyperparameters = training.hyperparameters
    present = {
        name.rpartition(".")[2]
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    targets = sorted(present.intersection(hyperparameters.target_modules))
    if not targets:
        raise Invalid(
            f"The model has none of the layers {', '.join(hyperparameters.target_modules)}; it "
            f"has {', '.join(sorted(present))}.",
            param="target_modules",
        )
    torch.manual_seed(hyperparameters.seed)  # PEFT draws the adapter's start from it
    config = LoraConfig(
        r=hyperparameters.rank,
        lora_alpha=hyperparameters.alpha,
        target_modules=targets,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


def _settings(
    scratch: Path, hyperparameters: Hyperparameters, device: str, rows: int
) -> dict[str, Any]:
    return {
        "output_dir": str(scratch),
        "learning_rate": hyperparameters.learning_rate,
        "lr_scheduler_type": "linear",
        "max_steps": hyperparameters.steps,
        "per_device_train_batch_size": rows // hyperparameters.steps,
        "max_length": hyperparameters.max_length,
        "seed": hyperparameters.seed,
        # The rows arrive in the order they are to be seen in.
        "train_sampling_strategy": "sequential",
        "use_cpu": device == "cpu",
        "bf16": device == "cuda",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }


class _StepWatch(TrainerCallback):
    """Reports every step, and stops training when asked to or when the loss is no number."""

    def __init__(self, steps: int, on_progress: OnProgress, stop: Callable[[], bool]) -> None:
        self.steps, self.step, self.loss = steps, 0, math.nan
        self._on_progress, self._stop, self._cancelled = on_progress, stop, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step, and ask whether to stop."""
        self.step = state.global_step
        self._cancelled = self._cancelled or self._stop()
        control.should_training_stop = control.should_training_stop or self._cancelled

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Report the step's figures."""
        if not logs or "loss" not in logs:
            return
        figures = {name: float(value) for name, value in logs.items()}
        self.loss = figures["loss"]
        if not math.isfinite(figures["loss"] + figures.get("grad_norm", 0.0)):
            self.loss = math.nan
            control.should_training_stop = True
        self._on_progress(Progress(state.global_step, self.steps, figures))

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._cancelled:
            raise Conflict("The run was cancelled.", code="cancelled")
        if not math.isfinite(self.loss):
            raise Invalid(
                f"Training diverged at step {self.step}: lower the learning rate.",
                param="learning_rate",
            )
