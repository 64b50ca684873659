"""One training run: lend the base, attach the adapter, let TRL train it, write it down.

Owns what the methods share. Must not know: how labels or pairs become rows, what is done with
the candidate.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, TrainerCallback

from core.errors import Conflict, Invalid
from core.files import appearing
from feedback.types import Label, Pair
from trainer.methods import dpo, kto
from trainer.methods.folders import CONFIG, write_config
from trainer.model.warm import WarmModel
from trainer.types import (
    Hyperparameters,
    MethodName,
    OnProgress,
    Progress,
    Start,
    TrainResult,
)


def run(
    model: WarmModel,
    *,
    method: MethodName,
    start: Start,
    examples: Sequence[Label | Pair],
    live_adapter: Path | None,
    hyperparameters: Hyperparameters,
    out: Path,
    on_progress: OnProgress,
    stop: Callable[[], bool],
) -> TrainResult:
    """See `trainer.methods.train`."""
    if start == "continued" and live_adapter is None:
        raise Invalid("There is no live version to continue from; start fresh.", param="start")
    rows, too_long, unreadable = _encoded(model, method, examples, hyperparameters.max_length)
    if not rows:
        raise Invalid(
            f"No example is left to learn from: {too_long} were longer than "
            f"{hyperparameters.max_length} tokens, {unreadable} were refused by the chat template."
        )
    watch = _Watch(hyperparameters.steps, on_progress, stop)
    began_s = time.monotonic()
    with appearing(out, replace=True) as scratch:
        with model.borrow() as base:
            peft = _attach(base, start, live_adapter, hyperparameters)
            trainer = (kto if method == "kto" else dpo).build(
                rows,
                _settings(scratch, hyperparameters, model.device.type),
                hyperparameters,
                model=peft,
                processing_class=model.tokenizer,
                callbacks=[watch],
            )
            # TRL clones the starting adapter as its frozen reference. Without the clone it
            # refers to the model with adapters off: the base, the anchor of every round.
            peft.delete_adapter("ref")
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            watch.check()
            peft.save_pretrained(scratch, selected_adapters=["default"])
        _tidy(scratch)
    return TrainResult(
        path=out,
        method=method,
        start=start,
        steps=watch.step,
        train_s=time.monotonic() - began_s,
        final_loss=watch.loss,
        dropped_too_long=too_long,
        examples=len(rows),
        dropped_unreadable=unreadable,
    )


class _Watch(TrainerCallback):
    """Reports every step, and stops training when asked to or when the loss is no number."""

    def __init__(self, steps: int, on_progress: OnProgress, stop: Callable[[], bool]) -> None:
        self.steps, self.step, self.loss = steps, 0, math.nan
        self._on_progress, self._stop, self._cancelled = on_progress, stop, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step = state.global_step
        self._cancelled = self._cancelled or self._stop()
        control.should_training_stop = control.should_training_stop or self._cancelled

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
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


def _encoded(
    model: WarmModel, method: MethodName, examples: Sequence[Label | Pair], max_length: int
) -> tuple[list[tuple[Label | Pair, tuple[list[int], ...]]], int, int]:
    """Examples with their token ids, and how many were too long or refused by the template.

    TRL itself drops prompts of `max_length` or more without a word and cuts longer answers.
    """
    wanted = Label if method == "kto" else Pair
    rows: list[tuple[Label | Pair, tuple[list[int], ...]]] = []
    too_long = unreadable = 0
    for example in examples:
        if not isinstance(example, wanted):
            raise Invalid(f"The method {method} learns from {wanted.__name__}s only.")
        try:
            tokens = _tokens(model, example)
        except Invalid:
            unreadable += 1
            continue
        if len(tokens[0]) + max(map(len, tokens[1:])) > max_length:
            too_long += 1
        else:
            rows.append((example, tokens))
    return rows, too_long, unreadable


def _tokens(model: WarmModel, example: Label | Pair) -> tuple[list[int], ...]:
    if isinstance(example, Label):
        return model.encode(example.prompt, example.completion)
    prompt, chosen = model.encode(example.prompt, example.chosen)
    other, rejected = model.encode(example.prompt, example.rejected)
    if len(other) < len(prompt):  # the template ends the shared part earlier for one of them
        prompt, chosen = other, prompt[len(other) :] + chosen
    elif len(other) > len(prompt):
        rejected = other[len(prompt) :] + rejected
    return prompt, chosen, rejected


def _attach(
    base: Any, start: Start, live_adapter: Path | None, hyperparameters: Hyperparameters
) -> Any:
    if start == "continued":
        return PeftModel.from_pretrained(base, str(live_adapter), is_trainable=True)
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


def _settings(scratch: Path, hyperparameters: Hyperparameters, device: str) -> dict[str, Any]:
    return {
        "output_dir": str(scratch),
        "learning_rate": hyperparameters.learning_rate,
        "lr_scheduler_type": "linear",
        "max_steps": hyperparameters.steps,
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


def _tidy(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / "README.md").unlink(missing_ok=True)
    write_config(folder, config)
