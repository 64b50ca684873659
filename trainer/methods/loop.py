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
from peft import LoraConfig, PeftModel, get_peft_model

from core.errors import Invalid
from core.files import appearing
from trainer.methods.building import build
from trainer.methods.fitting import Fit
from trainer.methods.folders import CONFIG, write_config
from trainer.methods.holdout import split
from trainer.methods.method import E, Method
from trainer.methods.prepared import TOO_LITTLE
from trainer.methods.reference import completions_only
from trainer.methods.stepping import StepWatch
from trainer.methods.stopping import evidence_of
from trainer.model.encoding import Tokens, tokens_of
from trainer.model.memory import is_out_of_memory
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, OnProgress, Start, TrainResult


@dataclass(frozen=True, slots=True)
class Training(Generic[E]):
    """One candidate to train: by which method, from what, into the folder `out`.

    A `continued` start is from `live_adapter`, whose rank, alpha and modules it keeps. `stop` is
    asked after every step. `on_fit` is told what the training takes, before its first step; one
    that would take more than `most_s` is refused.
    """

    method: Method[E]
    examples: Sequence[E]
    hyperparameters: Hyperparameters
    out: Path
    start: Start = "fresh"
    live_adapter: Path | None = None
    on_progress: OnProgress = lambda _: None
    stop: Callable[[], bool] = lambda: False
    on_fit: Callable[[Fit], None] = lambda _: None
    most_s: float = math.inf


def train(model: WarmModel, training: Training[Any]) -> TrainResult:
    """Train one candidate; its folder appears complete or not at all.

    The reference is always the base model, so that many rounds cannot drift away from it: a
    `fresh` candidate starts there too. The same training gives the same weights, bit for bit
    where threads and memory are the same. Raises Invalid when the examples cannot teach (none
    left, one kind of label only, diverged) or the training does not fit this machine, Conflict
    with code "cancelled" once `stop()` is true.
    """
    method, hyperparameters = training.method, training.hyperparameters
    if training.start == "continued" and training.live_adapter is None:
        raise Invalid("There is no live version to continue from; start fresh.", param="start")
    model.hold_in_4bit(hyperparameters.load_in_4bit)
    examples, too_long, unreadable = _encoded(model, training)
    if not examples:
        raise Invalid(
            f"No example is left to learn from: {method.name.upper()} needs {method.needs}; "
            f"{too_long} were longer than {hyperparameters.max_length} tokens "
            f"(ATTUNE_TRAIN_MAX_LENGTH), {unreadable} were refused by the chat template."
        )
    divided = split(method, examples, hyperparameters.holdout)
    rows = method.rows(divided.learnt, hyperparameters)
    recipe = method.recipe(divided.learnt, hyperparameters)
    watch = StepWatch(hyperparameters.steps, training.on_progress, training.stop)
    began_s = time.monotonic()
    with appearing(training.out, replace=True) as scratch:
        with model.borrow() as base, completions_only():
            peft = _attach(base, training)
            evidence = evidence_of(
                model, peft, hyperparameters, examples, divided.watched, watch.note
            )
            try:
                trainer = build(
                    model,
                    peft,
                    hyperparameters,
                    recipe,
                    rows,
                    scratch,
                    on_fit=training.on_fit,
                    most_s=training.most_s,
                )
                trainer.add_callback(watch)
                if evidence is not None:
                    trainer.add_callback(evidence)
                trainer.train()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise Invalid(TOO_LITTLE, param="max_length") from error
            watch.check()
            if evidence is not None:
                evidence.restore()
            # Copies of the base beside an embedding's update say nothing, and are not taken.
            peft.save_pretrained(
                scratch, selected_adapters=["default"], save_embedding_layers=False
            )
        (scratch / "README.md").unlink(missing_ok=True)
        write_config(scratch, json.loads((scratch / CONFIG).read_text()))
    found = evidence.finding if evidence is not None else None
    return TrainResult(
        path=training.out,
        method=method.name,
        start=training.start,
        steps=watch.step,
        train_s=time.monotonic() - began_s,
        final_loss=watch.loss,
        dropped_too_long=too_long,
        examples=len(divided.learnt),
        dropped_unreadable=unreadable,
        kept_step=found.best.step if found else None,
        stopped=found.stop if found and watch.step < hyperparameters.steps else None,
        watched=len(examples) - len(divided.learnt),
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
