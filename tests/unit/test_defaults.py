"""Hyperparameters follow the model's size unless the operator has said otherwise."""

from __future__ import annotations

import pytest

from core.settings import Settings
from trainer.runs.plan import gate_limits, hyperparameters


def test_a_large_model_gets_smaller_steps_than_a_tiny_one() -> None:
    tiny = hyperparameters(Settings(), 4_000_000)
    large = hyperparameters(Settings(), 7_000_000_000)
    assert large.learning_rate < tiny.learning_rate
    assert large.beta < tiny.beta


def test_what_the_operator_sets_wins_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_TRAIN_LEARNING_RATE", "0.0001")
    monkeypatch.setenv("ATTUNE_TRAIN_STEPS", "7")
    monkeypatch.setenv("ATTUNE_GATE_KL_CAP", "1.5")
    for parameters in (4_000_000, 7_000_000_000):
        chosen = hyperparameters(Settings(), parameters)
        assert (chosen.learning_rate, chosen.steps) == (0.0001, 7)
    assert gate_limits(Settings()).kl_cap == 1.5


def test_a_trained_adapter_never_exceeds_the_servers_rank() -> None:
    assert hyperparameters(Settings(max_lora_rank=8), 1).rank == 8
