"""What the loop computes is what plain TRL computes from the same rows, however it is laid out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model

from trainer.methods import METHODS
from trainer.methods.loop import Training, train
from trainer.methods.sft import Demonstration
from trainer.model.encoding import encode
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, Progress

PLAIN = Hyperparameters(
    rank=4,
    alpha=8,
    steps=4,
    learning_rate=2e-3,
    beta=1.0,
    kl_rows=0,
    precompute=False,
    precision="float32",
)
ONCE = replace(PLAIN, precompute=True)
IN_PARTS = replace(ONCE, tokens_at_once=24)
LESS_KEPT = replace(IN_PARTS, gradient_checkpointing=True)
WAYS = {
    "as TRL does": PLAIN,
    "the reference once": ONCE,
    "a step in parts": IN_PARTS,
    "less kept": LESS_KEPT,
}


def losses_of(model: WarmModel, name: str, examples: list[Any], how: Hyperparameters, out: Path):
    steps: list[Progress] = []
    train(model, Training(METHODS[name], examples, how, out, on_progress=steps.append))
    return [step.metrics["loss"] for step in steps]


def losses_of_plain_trl(model: WarmModel, name: str, examples: list[Any], out: Path):
    """TRL by itself, on the same rows in the same order, from the same start."""
    method = METHODS[name]
    encoded = [
        (one, encode(model.tokenizer, one.prompt, *method.completions(one))) for one in examples
    ]
    rows = method.rows(encoded, PLAIN)
    recipe = method.recipe(encoded, PLAIN)

    class OnRows(recipe.trainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    with model.borrow() as base:
        torch.manual_seed(PLAIN.seed)
        config = LoraConfig(
            r=PLAIN.rank,
            lora_alpha=PLAIN.alpha,
            target_modules=sorted(PLAIN.target_modules),
            task_type="CAUSAL_LM",
        )
        plain = OnRows(
            model=get_peft_model(base, config),
            processing_class=model.tokenizer,
            train_dataset=Dataset.from_list(rows),
            args=recipe.config(
                output_dir=str(out),
                learning_rate=PLAIN.learning_rate,
                lr_scheduler_type="linear",
                max_steps=PLAIN.steps,
                per_device_train_batch_size=len(rows) // PLAIN.steps,
                train_sampling_strategy="sequential",
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                **recipe.settings,
            ),
        )
        plain.train()
    return [entry["loss"] for entry in plain.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def examples(tiny_model, habits) -> dict[str, list[Any]]:
    """By method, of very different lengths, so that parts differ and padding counts."""
    labels = habits.labels(tiny_model, seed=1)[:24]
    longer = [
        replace(one, prompt=({"role": "user", "content": "well " * (3 * place)}, *one.prompt))
        for place, one in enumerate(labels[:6])
    ]
    pairs = habits.pairs()[:10]
    shown = [Demonstration(pair.prompt, pair.chosen) for pair in pairs]
    return {"kto": [*longer, *labels[6:]], "dpo": list(pairs), "sft": shown}


@pytest.mark.parametrize("name", ["kto", "dpo", "sft"])
def test_the_losses_are_plain_trls_whatever_the_layout(
    tiny_model, examples, tmp_path, name: str
) -> None:
    expected = losses_of_plain_trl(tiny_model, name, examples[name], tmp_path / "plain")
    assert len({round(loss, 4) for loss in expected}) > 1
    for title, how in WAYS.items():
        found = losses_of(tiny_model, name, examples[name], how, tmp_path / title)
        assert found == pytest.approx(expected, abs=1e-5), title


@pytest.mark.parametrize("name", ["kto", "dpo"])
def test_a_step_in_parts_reports_the_figures_of_the_whole_step(
    tiny_model, examples, tmp_path, name: str
) -> None:
    steps: dict[str, list[Progress]] = {"whole": [], "parts": []}
    for title, how in (("whole", ONCE), ("parts", IN_PARTS)):
        out, told = tmp_path / title, steps[title].append
        train(tiny_model, Training(METHODS[name], examples[name], how, out, on_progress=told))
    for whole, parts in zip(*steps.values(), strict=True):
        for figure in ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen"):
            assert parts.metrics[figure] == pytest.approx(whole.metrics[figure], abs=1e-4), figure


def test_steps_without_a_liked_answer_are_learnt_in_parts_too(
    tiny_model, examples, tmp_path
) -> None:
    """One liked among many: most steps see the other kind alone."""
    liked = next(label for label in examples["kto"] if label.desirable)
    rare = [*(label for label in examples["kto"] if not label.desirable), liked]
    steps: list[Progress] = []
    training = Training(METHODS["kto"], rare, IN_PARTS, tmp_path / "rare", on_progress=steps.append)
    train(tiny_model, training)
    told = ["rewards/margins" in step.metrics for step in steps]
    assert True in told
    assert False in told


def test_bfloat16_learns_nearly_the_same(tiny_model, examples, tmp_path) -> None:
    found = [
        losses_of(tiny_model, "dpo", examples["dpo"], how, tmp_path / str(number))
        for number, how in enumerate((ONCE, replace(ONCE, precision="bfloat16")))
    ]
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], rel=0.05)
