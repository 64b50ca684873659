"""What a run is trained by: the adapter's recipe, then the operator, then what suits the model."""

from __future__ import annotations

import pickle
from dataclasses import fields

import pytest

from adapters.recipe import Recipe
from core.settings import Settings
from trainer.runs.plan import Candidate, gate_limits, hyperparameters
from trainer.runs.recipes import as_used, learning_rate_for, told

SHIPPED, REAL, LARGE = 3_600_000, 135_000_000, 8_000_000_000


def test_a_large_model_gets_smaller_steps_than_a_tiny_one() -> None:
    assert learning_rate_for(SHIPPED) > learning_rate_for(REAL) > learning_rate_for(LARGE) > 0


def test_what_the_operator_sets_wins_over_what_suits_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATTUNE_TRAIN_LEARNING_RATE", "0.0001")
    monkeypatch.setenv("ATTUNE_TRAIN_STEPS", "7")
    monkeypatch.setenv("ATTUNE_GATE_KL_CAP", "1.5")
    for parameters in (SHIPPED, LARGE):
        chosen = hyperparameters(Settings(), parameters)
        assert (chosen.learning_rate, chosen.steps) == (0.0001, 7)
    assert gate_limits(Settings()).kl_cap == 1.5


def test_what_the_adapter_says_wins_over_the_operator() -> None:
    settings = Settings(train_learning_rate=1e-4, train_beta=0.3, train_steps=7, train_batch_size=6)
    recipe = Recipe(learning_rate=2e-4, beta=0.5, max_steps=9, batch_size=4, rank=8, alpha=64)
    chosen = told(as_used(settings, REAL, recipe))
    assert (chosen.learning_rate, chosen.beta, chosen.steps) == (2e-4, 0.5, 9)
    assert (chosen.batch_size, chosen.rank, chosen.alpha) == (4, 8, 64)


def test_every_figure_is_filled_in_and_a_filled_in_recipe_stays_as_it_is() -> None:
    used = as_used(Settings(), REAL, completions=100)
    assert all(getattr(used, field.name) is not None for field in fields(used))
    assert as_used(Settings(train_steps=3, gate_kl_cap=1.0), LARGE, used, completions=9) == used


def test_zero_is_said_and_not_left_open() -> None:
    used = as_used(Settings(), REAL, Recipe(sft_weight=0.0, holdout=0.0))
    assert (used.sft_weight, used.holdout) == (0.0, 0.0)


def test_a_run_never_exceeds_the_servers_limits() -> None:
    asked = Recipe(rank=64, max_length=4096)
    used = as_used(Settings(max_lora_rank=8, train_max_length=256), REAL, asked)
    assert (used.rank, used.alpha, used.max_length) == (8, 16, 256)


def test_the_kl_budget_is_what_the_gate_allows_an_answer() -> None:
    assert as_used(Settings(gate_kl_cap=1.5), REAL).kl_budget == 1.5
    assert as_used(Settings(gate_kl_cap=1.5), REAL, Recipe(kl_budget=0.7)).kl_budget == 0.7


def test_a_run_sees_all_there_is_once_but_not_without_end() -> None:
    """Eight answers a step: 800 make 100 steps."""
    steps = [as_used(Settings(), REAL, completions=n).max_steps for n in (0, 77, 800, 10**6)]
    assert steps == [40, 40, 100, 500]


def test_a_trained_adapter_never_exceeds_the_servers_rank() -> None:
    assert hyperparameters(Settings(max_lora_rank=8), 1).rank == 8


def test_candidates_at_several_learning_rates_have_names_of_their_own() -> None:
    names = {Candidate("kto", "fresh", rate).name for rate in (None, 1e-4, 1.00000001e-4, 2e-5)}
    assert names == {
        "kto-fresh",
        "kto-fresh-lr0.0001",
        "kto-fresh-lr0.000100000001",
        "kto-fresh-lr2e-05",
    }


def test_a_candidate_of_the_release_before_is_read_as_one_without_a_rate() -> None:
    former = Candidate.__new__(Candidate)
    former.__setstate__(["dpo", "continued"])
    assert former == Candidate("dpo", "continued")
    now = Candidate("kto", "fresh", 1e-4)
    assert pickle.loads(pickle.dumps(now)) == now


def test_four_bits_are_the_recipes_and_else_the_operators() -> None:
    everywhere = Settings(trainer_4bit=True)
    assert not told(as_used(Settings(), REAL)).load_in_4bit
    assert told(as_used(Settings(), REAL, Recipe(load_in_4bit=True))).load_in_4bit
    assert told(as_used(everywhere, REAL)).load_in_4bit
