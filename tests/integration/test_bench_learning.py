"""Both benchmarks of learning on the shipped model, with numbers that take seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.settings import SHIPPED_MODEL
from deploy.bench.learn import measure as measure_learning
from deploy.bench.learn import table as learning_table
from deploy.bench.pairs import measure as measure_pairs
from deploy.bench.pairs import table as pairs_table
from deploy.bench.results import rounded

ITEM = {"prompt": "Who are you?", "must_contain": ["model"], "kind": "facts"}


@pytest.fixture(autouse=True)
def short_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two steps, judged by a suite of one question."""
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps(ITEM) + "\n")
    monkeypatch.setenv("ATTUNE_TRAIN_STEPS", "2")
    monkeypatch.setenv("ATTUNE_REGRESSION_SUITE", str(suite))


def test_a_taste_is_rated_learnt_judged_prompted_and_kept(tmp_path: Path) -> None:
    """Most of the shipped model's answers have 24 tokens or fewer, so "brief" has both thumbs."""
    runs = tmp_path / "runs.jsonl"
    wanted = {"model": SHIPPED_MODEL, "tastes": ("brief",), "seeds": 1, "tokens": 24}
    wanted |= {"held_out": 6, "runs": runs}
    figures = measure_learning(**wanted, thumbs=(16,))
    (run,) = figures["runs"]
    assert figures["failed_because"] == []
    assert (run["taste"], run["seed"], run["judgements"]) == ("brief", 0, 16)
    assert 0 < run["ups"] < 16
    assert run["state"] in ("succeeded", "rejected")
    assert run["stopped_at"] > 0
    assert run["neutral_perplexity_ratio"] != 1.0  # something was learnt, and it is measured
    assert 0 <= run["prompted"] <= 1
    assert 0 < run["train_s"] < run["seconds"]
    assert len(run["samples"]) == 6
    learning_table(figures)

    again = measure_learning(**wanted, thumbs=(16,), resume=True)
    assert again["runs"] == json.loads(json.dumps([run]))
    assert len(runs.read_text().splitlines()) == 1


def test_pairs_are_learnt_by_both_and_scored_on_other_prompts(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Who is number {number}? 🌍"}],
            "chosen": [{"role": "assistant", "content": f"Number {number} is a friend."}],
            "rejected": [{"role": "assistant", "content": "I do not know that."}],
        }
        for number in range(12)
    ]
    rows.append({"prompt": "Why?", "chosen": "No.", "rejected": "No."})
    rows.append({"prompt": "Why?", "chosen": "word " * 200, "rejected": "No."})
    file.write_text("\n".join(map(json.dumps, rows)))
    figures = measure_pairs(file=file, model=SHIPPED_MODEL, seeds=1, longest=96)
    (run,) = figures["runs"]
    same = "rejected: it is the same text as the better answer."
    assert figures["left_out"] == {same: 1, "too_long": 1}
    assert (run["train_pairs"], run["held_out_pairs"], run["held_out_prompts"]) == (9, 3, 3)
    for name in ("trl", "ours"):
        found = figures[name]
        assert found["accuracy"]["low"] <= found["accuracy"]["mean"] <= found["accuracy"]["high"]
        assert found["margin"]["mean"] != 0.0
        assert run[name]["steps"] > 0
    assert rounded(figures)["trl"]["settings"]["learning_rate"] == "5e-06"
    # Pairs this plain are learnt by the faster recipe at once.
    assert figures["ours"]["accuracy"]["mean"] == 1.0
    pairs_table(figures)
