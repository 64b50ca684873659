"""Training on a tiny model with two habits: preferences are learnt, the base is never touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapters.artifacts.digest import adapter_digest
from core.errors import Conflict, Invalid, Unavailable
from feedback.types import Label
from trainer.methods import pairs_as_labels, scaled, train
from trainer.methods.rows import interleaved_passes, label_weights, passes
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, Progress

SMALL = Hyperparameters(rank=4, alpha=8, steps=30, learning_rate=2e-3, beta=1.0)
BRIEF = replace(SMALL, steps=3)


def never() -> bool:
    return False


def ignore(_: Progress) -> None:
    pass


@pytest.fixture(scope="session")
def liked(tiny_model: WarmModel, habits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter trained by KTO to open with "gladly"."""
    labels = habits.labels(tiny_model, seed=1) + habits.labels(tiny_model, seed=2)
    return train(
        tiny_model,
        method="kto",
        start="fresh",
        examples=labels[:32],
        live_adapter=None,
        hyperparameters=SMALL,
        out=tmp_path_factory.mktemp("adapters") / "liked",
        on_progress=ignore,
        stop=never,
    ).path


def test_thumbs_teach_a_habit_and_leave_the_facts(tiny_model, habits, liked) -> None:
    assert habits.share(tiny_model, None) < 0.7
    assert habits.share(tiny_model, liked) >= 0.9
    assert habits.right(tiny_model, liked) >= habits.right(tiny_model, None) - 0.05


def test_pairs_teach_a_habit_and_leave_the_facts(tiny_model, habits, tmp_path) -> None:
    result = train(
        tiny_model,
        method="dpo",
        start="fresh",
        examples=habits.pairs()[:12],
        live_adapter=None,
        hyperparameters=SMALL,
        out=tmp_path / "adapter",
        on_progress=ignore,
        stop=never,
    )
    assert habits.share(tiny_model, result.path) >= 0.9
    assert habits.right(tiny_model, result.path) >= habits.right(tiny_model, None) - 0.05
    assert (result.method, result.start, result.steps, result.examples) == ("dpo", "fresh", 30, 12)


def test_pairs_can_be_learnt_from_as_labels(habits) -> None:
    labels = pairs_as_labels(habits.pairs()[:2])
    assert [label.desirable for label in labels] == [True, False, True, False]
    assert labels[1].completion == habits.pairs()[0].rejected


def test_the_folder_holds_the_adapter_and_nothing_else(liked) -> None:
    names = sorted(file.name for file in liked.iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((liked / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert sorted(p.name for p in liked.parent.iterdir()) == ["liked"]


def test_a_fresh_start_is_the_reference_and_a_continued_one_is_measured_from_the_base(
    tiny_model, habits, liked, tmp_path
) -> None:
    """Rewards are beta · log(policy / reference): 0 at the first step where both are the base."""
    first: dict[str, float] = {}
    for start, live in (("fresh", None), ("continued", liked)):
        steps: list[Progress] = []
        train(
            tiny_model,
            method="dpo",
            start=start,
            examples=habits.pairs(),
            live_adapter=live,
            hyperparameters=BRIEF,
            out=tmp_path / start,
            on_progress=steps.append,
            stop=never,
        )
        assert [step.step for step in steps] == [1, 2, 3]
        first[start] = steps[0].metrics["rewards/margins"]
    assert first["fresh"] == pytest.approx(0.0, abs=1e-4)
    assert first["continued"] > 1.0


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(
    tiny_model, habits, tmp_path
) -> None:
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = train(
            tiny_model,
            method="kto",
            start="fresh",
            examples=habits.labels(tiny_model, seed=1),
            live_adapter=None,
            hyperparameters=replace(BRIEF, seed=seed),
            out=tmp_path / name,
            on_progress=ignore,
            stop=never,
        )
        digests.append(adapter_digest(result.path))
    assert digests[0] == digests[1] != digests[2]


def test_a_cancelled_run_leaves_nothing_behind(tiny_model, habits, tmp_path) -> None:
    seen: list[Progress] = []
    with pytest.raises(Conflict) as caught:
        train(
            tiny_model,
            method="kto",
            start="fresh",
            examples=habits.labels(tiny_model, seed=1),
            live_adapter=None,
            hyperparameters=SMALL,
            out=tmp_path / "adapter",
            on_progress=seen.append,
            stop=lambda: len(seen) >= 2,
        )
    assert caught.value.code == "cancelled"
    assert len(seen) <= 3
    assert list(tmp_path.iterdir()) == []
    with tiny_model.borrow() as base:
        assert not any("lora" in name for name, _ in base.named_modules())


def test_training_leaves_the_base_bit_for_bit(tiny_model, tiny_model_path, liked) -> None:
    from safetensors.torch import load_file

    stored = load_file(tiny_model_path / "model.safetensors")
    with tiny_model.borrow() as base:
        weights = base.state_dict()
        assert all(torch.equal(weights[name], tensor) for name, tensor in stored.items())
        assert "forward" not in vars(base)


def test_a_borrower_that_changes_the_base_is_found_out(tiny_model_path, habits) -> None:
    model = WarmModel(str(tiny_model_path), threads=1)
    asked = [habits.ask(item) for item in habits.items[:4]]
    before = model.logprobs([(prompt, "well .") for prompt in asked], None)
    with pytest.raises(Unavailable, match="weights changed"), model.borrow() as base:
        next(base.parameters()).data[0, 0] += 1e-3
    assert model.logprobs([(prompt, "well .") for prompt in asked], None) == before


def test_examples_that_do_not_fit_are_counted(tiny_model, habits, tmp_path) -> None:
    labels = habits.labels(tiny_model, seed=1)
    endless = replace(labels[0], completion="well " * 200)
    refused = replace(labels[0], prompt=({"role": "robot", "content": "hum"},))
    result = train(
        tiny_model,
        method="kto",
        start="fresh",
        examples=labels,
        replay=[endless, refused],
        live_adapter=None,
        hyperparameters=replace(BRIEF, max_length=64),
        out=tmp_path / "adapter",
        on_progress=ignore,
        stop=never,
    )
    assert (result.examples, result.dropped_too_long, result.dropped_unreadable) == (20, 1, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda labels: [label for label in labels if label.desirable], "the missing kind"),
        (lambda labels: [], "No example is left"),
    ],
)
def test_feedback_that_cannot_teach_is_refused(
    tiny_model, habits, tmp_path, spoil: Callable[[list[Label]], list[Label]], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        train(
            tiny_model,
            method="kto",
            start="fresh",
            examples=spoil(habits.labels(tiny_model, seed=1)),
            live_adapter=None,
            hyperparameters=BRIEF,
            out=tmp_path / "adapter",
            on_progress=ignore,
            stop=never,
        )


def test_scaling_keeps_the_weights_and_shrinks_the_update(tiny_model, habits, liked, tmp_path):
    half = scaled(liked, 0.5, tmp_path / "half")
    weights = "adapter_model.safetensors"
    assert (half / weights).read_bytes() == (liked / weights).read_bytes()
    assert json.loads((half / "adapter_config.json").read_text())["lora_alpha"] == 4.0
    pairs = habits.pairs()
    item = [(pairs[0].prompt, pairs[0].rejected)]
    base, some, full = (tiny_model.logprobs(item, path)[0] for path in (None, half, liked))
    assert base > some > full


def test_every_step_sees_both_kinds_in_their_proportion() -> None:
    """6 ups and 26 downs in steps of 8: every step has one or two ups, as 6 / 32 · 8 = 1.5."""
    rows = interleaved_passes(list("u" * 6), list("d" * 26), 320, seed=5)
    steps = [rows[at : at + 8] for at in range(0, 320, 8)]
    assert {step.count("u") for step in steps} <= {1, 2}
    assert rows.count("u") == 60


def test_every_pass_sees_each_item_once_in_a_new_order() -> None:
    rows = passes(range(10), 30, seed=1)
    one, two = rows[:10], rows[10:20]
    assert sorted(one) == sorted(two) == list(range(10))
    assert one != two


def test_the_rarer_label_is_weighted_up() -> None:
    assert label_weights(ups=8, downs=24) == (3.0, 1.0)
    assert label_weights(ups=20, downs=10) == (1.0, 2.0)
