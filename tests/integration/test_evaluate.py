"""Measuring candidates on a tiny model with two habits, and the gate's view of them."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from feedback.token_ids import pack_ids
from trainer.judging.drawn import draw
from trainer.judging.evaluate import evaluate
from trainer.judging.gate import judge
from trainer.judging.suite import SuiteItem
from trainer.methods import METHODS
from trainer.methods.loop import Training, train
from trainer.model.encoding import encode, encode_prompt
from trainer.model.sampling import answers
from trainer.model.scoring import kl_to_base, logprobs
from trainer.model.warm import WarmModel
from trainer.types import Evaluation, GateLimits, Hyperparameters

SMALL = Hyperparameters(rank=4, alpha=8, steps=30, learning_rate=2e-3, beta=1.0)


def by_pairs(model: WarmModel, examples, out: Path, hyperparameters=SMALL) -> Path:
    training = Training(METHODS["dpo"], examples, hyperparameters, out)
    return train(model, training).path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="session")
def gladly(tiny_model, habits, folder: Path) -> Path:
    return by_pairs(tiny_model, habits.pairs()[:12], folder / "gladly")


@pytest.fixture(scope="session")
def suite(habits) -> list[SuiteItem]:
    return [SuiteItem(habits.ask(item), (habits.number(item),)) for item in habits.items]


def encoded(model: WarmModel, prompts: list[Any]) -> list[list[int]]:
    return [encode_prompt(model.tokenizer, prompt) for prompt in prompts]


def measured(model, candidate, live, labels=(), pairs=(), suite=()) -> Evaluation:
    return evaluate(
        model, candidate=candidate, live=live, labels=labels, pairs=pairs, suite=suite, seed=5
    )


def test_a_candidate_that_learnt_the_preference_passes(tiny_model, habits, gladly, suite) -> None:
    found = measured(tiny_model, gladly, None, habits.labels(tiny_model, seed=8), (), suite)
    assert found.margin.mean > found.margin.low > 1.0
    assert 0.0 < found.kl_to_base < 3.0
    assert found.held_out_labels == 20
    assert len(found.samples) == 8
    assert found.answer_tokens == pytest.approx(10, abs=2)
    assert judge(found, GateLimits()).promoted
    assert found.taste is not None
    assert found.taste.told_apart.mean == 1.0  # the first word tells
    assert found.taste.shift.low > 0


def test_a_candidate_that_learnt_the_opposite_fails(tiny_model, habits, gladly, suite) -> None:
    against = habits.labels(tiny_model, seed=8, prefer="well")
    found = measured(tiny_model, gladly, None, against, (), suite)
    assert found.margin.high < 0
    assert found.taste is not None
    assert found.taste.shift.high < 0
    assert not judge(found, GateLimits()).promoted


def test_labels_of_one_kind_are_held_against_the_references_own_answers(
    tiny_model, habits, gladly
) -> None:
    labels = habits.labels(tiny_model, seed=8)
    ups = measured(tiny_model, gladly, None, [label for label in labels if label.desirable])
    downs = measured(tiny_model, gladly, None, [label for label in labels if not label.desirable])
    assert ups.margin.mean > 0
    assert downs.margin.mean > 0


def test_liked_answers_that_were_cut_allow_for_cut_ones(tiny_model, habits, gladly) -> None:
    """An answer that was cut has no end token; one that goes through the template has."""
    labels = habits.labels(tiny_model, seed=8)
    ended = measured(tiny_model, gladly, None, labels)
    cut = [
        replace(label, ids=(pack_ids(head), pack_ids(tail[:3])))
        for label in labels
        for head, tail in [encode(tiny_model.tokenizer, label.prompt, label.completion)]
    ]
    assert ended.faults.endless_wanted == 0.0
    assert measured(tiny_model, gladly, None, cut).faults.endless_wanted == 1.0


def test_what_the_reference_cannot_answer_of_a_suite_is_asked_greedily_alone(
    tiny_model, habits, gladly
) -> None:
    prompts = [habits.ask(item) for item in habits.items]
    known = SuiteItem(prompts[2], (habits.number(habits.items[2]),))
    unknown = SuiteItem(prompts[3], ("no such number",), max_tokens=5)
    held_out = [
        (ids, prompt)
        for ids, prompt in zip(encoded(tiny_model, prompts[:2]), prompts[:2], strict=True)
    ]
    drawn = draw(tiny_model, gladly, None, held_out, [unknown, known], 0)
    first, second, third = (str(prompt[0]["content"]) for prompt in prompts[:3])
    assert drawn.told[:8] == (first, second, first, second, first, second, third, first)
    assert len(drawn.told) == len(drawn.before) == len(drawn.after) == 64
    assert str(prompts[3][0]["content"]) not in drawn.told
    assert [limit for _, limit in drawn.questions] == [5, 96, 96, 96]
    assert len(drawn.greedy_before[0].ids) <= 5
    assert {prompt for prompt, _, _ in drawn.samples()} == {first, second, third}


def test_a_damaged_candidate_fails_whatever_its_margin(tiny_model, habits, folder, suite) -> None:
    reckless = replace(SMALL, learning_rate=5e-2, beta=0.01)
    damaged = by_pairs(tiny_model, habits.pairs()[:12], folder / "damaged", reckless)
    found = measured(tiny_model, damaged, None, (), habits.pairs()[12:], suite)
    verdict = judge(found, GateLimits())
    assert not verdict.promoted
    assert found.kl_to_base > 3.0
    assert found.suite is not None
    assert found.suite.candidate < found.suite.reference


def test_a_version_does_not_differ_from_itself(tiny_model, habits, gladly, suite) -> None:
    found = measured(tiny_model, gladly, gladly, (), habits.pairs(), suite)
    assert (found.margin.mean, found.margin.low, found.margin.high) == (0.0, 0.0, 0.0)
    assert found.length_ratio == 1.0
    assert found.suite is not None
    assert found.suite.difference.mean == 0.0
    assert not judge(found, GateLimits()).promoted


def test_the_divergence_agrees_with_its_sampled_estimate(tiny_model, habits, gladly) -> None:
    """KL(p || q) is the mean of log p - log q over samples of p: 400 samples come within 20 %."""
    prompts = encoded(tiny_model, [habits.ask(item) for item in habits.items] * 20)
    drawn = answers(tiny_model, prompts, gladly, 1.0, 20, seed=3)
    items = [(prompt, answer.ids) for prompt, answer in zip(prompts, drawn, strict=True)]
    exact = statistics.fmean(kl_to_base(tiny_model, items, gladly))
    new, old = logprobs(tiny_model, items, gladly), logprobs(tiny_model, items, None)
    sampled = statistics.fmean(a - b for a, b in zip(new, old, strict=True))
    assert exact == pytest.approx(sampled, rel=0.2)


def test_scores_in_a_batch_equal_scores_one_by_one(tiny_model, habits) -> None:
    said = [(pair.prompt, pair.chosen) for pair in habits.pairs()[:3]]
    said += [(said[0][0], "well"), ("number of", " red")]
    items = [tuple(encode(tiny_model.tokenizer, *one)) for one in said]
    together = logprobs(tiny_model, items, None)
    for (head, tail), value in zip(items, together, strict=True):
        with tiny_model.adapted(None) as model:
            logits = model(input_ids=torch.tensor([head + tail])).logits[0].log_softmax(-1)
        single = sum(float(logits[len(head) + at - 1, token]) for at, token in enumerate(tail))
        assert value == pytest.approx(single, abs=1e-4)


def test_an_answer_does_not_depend_on_its_company(tiny_model, habits) -> None:
    """Greedy answers to prompts of different length are the same alone and padded in a batch."""
    asked = [habits.ask("reda"), (*habits.ask("wetb"), *habits.ask("farc")), "number of"]
    prompts = encoded(tiny_model, asked)
    together = answers(tiny_model, prompts, None, 0.0, 12)
    alone = [answers(tiny_model, [prompt], None, 0.0, 12)[0] for prompt in prompts]
    assert together == tuple(alone)


def test_the_same_seed_draws_the_same_answers(tiny_model_path, habits) -> None:
    model = WarmModel(str(tiny_model_path), threads=1)
    prompts = encoded(model, [habits.ask(item) for item in habits.items])
    first = answers(model, prompts, None, 1.0, 20, seed=1)
    assert answers(model, prompts, None, 1.0, 20, seed=2) != first
    assert answers(WarmModel(str(tiny_model_path)), prompts, None, 1.0, 20, seed=1) == first


@pytest.mark.parametrize(
    "prompt",
    [
        (), ({},), ({"role": None},), ({"role": "user"},), ({"role": "user", "content": None},),
        ({"role": "user", "content": {"a": [1]}},), ({"role": "user", "content": [None, 7]},),
        ({"type": "function_call_output", "output": "x"},), ({"role": ["user"], "content": "x"},),
    ],
)  # fmt: skip
def test_a_prompt_no_template_reads_is_left_out_and_ends_no_run(
    tiny_model: WarmModel, habits, gladly, prompt: Any
) -> None:
    labels = [replace(label, prompt=prompt) for label in habits.labels(tiny_model, seed=8)[:2]]
    fine = habits.labels(tiny_model, seed=8)[2:6]
    assert measured(tiny_model, gladly, None, fine).held_out_labels == 4
    assert measured(tiny_model, gladly, None, [*fine, *labels]).held_out_labels in (4, 6)
