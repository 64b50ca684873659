"""A method is one file and one line: a toy one is planned, trained and judged like any other."""

from __future__ import annotations

import pytest
from support.toy_method import Imitation

from adapters.types import Learning
from core.ids import AdapterId
from feedback.learning.datasets import freeze
from trainer.judging.evaluate import evaluate
from trainer.judging.gate import judge
from trainer.methods import METHODS
from trainer.methods.loop import Training, train
from trainer.runs.plan import candidates
from trainer.types import GateLimits, Hyperparameters


def test_a_method_of_one_file_and_one_line_is_planned_trained_and_judged(
    tiny_model, habits, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, Imitation.name, Imitation())  # the one line
    labels = habits.labels(tiny_model, seed=1)
    snapshot = freeze(AdapterId("support"), labels, (), {}, 0.3)

    (planned,) = candidates(snapshot, Learning(method=Imitation.name), has_live=False)
    assert planned.name == "imitation-fresh"

    method = METHODS[planned.method]
    hyperparameters = Hyperparameters(rank=4, alpha=8, steps=16, learning_rate=2e-3)
    training = Training(method, method.examples(snapshot), hyperparameters, tmp_path / planned.name)
    result = train(tiny_model, training)
    assert result.method == "imitation"

    measured = evaluate(
        tiny_model,
        candidate=result.path,
        live=None,
        labels=snapshot.held_out_labels,
        pairs=snapshot.held_out_pairs,
        suite=(),
        seed=0,
    )
    assert measured.margin.mean > 0
    assert judge(measured, GateLimits()).promoted
