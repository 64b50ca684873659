"""A training that is watched stops by evidence, keeps its best weights, and learns alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.artifacts.digest import adapter_digest
from trainer.judging.evaluate import ANSWER_TOKENS
from trainer.methods import METHODS
from trainer.methods.loop import Training, train
from trainer.model.encoding import encode_prompt
from trainer.model.sampling import answers
from trainer.model.scoring import kl_to_base
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, Progress, TrainResult

UNWATCHED = Hyperparameters(rank=4, alpha=8, steps=16, learning_rate=2e-3, beta=1.0)
FREE = replace(UNWATCHED, kl_budget=1e9)
"""Watched, with a budget that is never reached and nothing set apart."""


@pytest.fixture(scope="module")
def labels(tiny_model: WarmModel, habits):
    return habits.labels(tiny_model, seed=1) + habits.labels(tiny_model, seed=2)


def run(
    model: WarmModel, labels, told: Hyperparameters, out: Path
) -> tuple[TrainResult, list[Progress]]:
    steps: list[Progress] = []
    training = Training(METHODS["kto"], labels, told, out, on_progress=steps.append)
    return train(model, training), steps


@pytest.fixture(scope="module")
def free(tiny_model, labels, tmp_path_factory):
    return run(tiny_model, labels, FREE, tmp_path_factory.mktemp("free") / "adapter")


def test_watching_changes_no_weight(tiny_model, labels, tmp_path, free) -> None:
    plain, _ = run(tiny_model, labels, UNWATCHED, tmp_path / "plain")
    watched, _ = free
    assert adapter_digest(watched.path) == adapter_digest(plain.path)
    assert (watched.kept_step, watched.stopped) == (16, None)
    assert (plain.kept_step, plain.stopped) == (None, None)


def test_every_look_is_reported_with_its_step(free) -> None:
    _, steps = free
    seen = {one.step: one.metrics["kl_to_base"] for one in steps if "kl_to_base" in one.metrics}
    assert list(seen) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert [one.step for one in steps] == list(range(1, 17))
    assert seen[16] > seen[2] >= 0


def test_the_kl_watched_is_the_gates(tiny_model, habits, free) -> None:
    """On the same prompts: 16 answers against all, so within half of each other."""
    result, steps = free
    prompts = [encode_prompt(tiny_model.tokenizer, habits.ask(item)) for item in habits.items]
    said = answers(tiny_model, prompts, result.path, 1.0, ANSWER_TOKENS, 0)
    items = [(prompt, one.ids) for prompt, one in zip(prompts, said, strict=True)]
    judged = sum(kl_to_base(tiny_model, items, result.path)) / len(items)
    assert steps[-1].metrics["kl_to_base"] == pytest.approx(judged, rel=0.5)
    assert judged > 0.2


def test_it_stops_at_the_budget_with_the_last_weights_within_it(
    tiny_model, labels, tmp_path, free
) -> None:
    """The budget lies between what two looks of the free training found, one after the other."""
    _, steps = free
    kl = {one.step: one.metrics["kl_to_base"] for one in steps if "kl_to_base" in one.metrics}
    first_over = next(step for step in kl if kl[step] > 0.2)
    budget = (kl[first_over] + kl[first_over - 2]) / 2
    result, told = run(tiny_model, labels, replace(FREE, kl_budget=budget), tmp_path / "stopped")
    assert (result.steps, result.kept_step) == (first_over + 2, first_over - 2)
    assert result.stopped is not None
    assert "over its budget" in result.stopped
    assert len(told) == first_over + 2
    # The weights are those of that step: watched all the way, the budget would have kept them too.
    whole = replace(FREE, kl_budget=kl[first_over - 2])
    again, _ = run(tiny_model, labels, whole, tmp_path / "again")
    assert adapter_digest(again.path) == adapter_digest(result.path)
    assert adapter_digest(result.path) != adapter_digest(free[0].path)


def test_what_is_set_apart_is_not_learnt_and_its_margin_is_told(
    tiny_model, labels, tmp_path
) -> None:
    result, steps = run(tiny_model, labels, replace(FREE, holdout=0.3), tmp_path / "apart")
    margins = [one.metrics["holdout_margin"] for one in steps if "holdout_margin" in one.metrics]
    assert result.watched > 0
    assert result.watched + result.examples == len(labels)
    assert margins[-1] > margins[0]


def test_it_stops_when_the_margin_gets_no_better(tiny_model, labels, tmp_path) -> None:
    """With steps too small to move a weight, the second look finds what the first did."""
    told = replace(FREE, holdout=0.3, patience=1, learning_rate=1e-12)
    result, _ = run(tiny_model, labels, told, tmp_path / "idle")
    assert (result.steps, result.kept_step) == (4, 2)
    assert result.stopped == "the margin got no better in 1 looks"
