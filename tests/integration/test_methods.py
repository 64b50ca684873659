"""Training on a tiny model with two habits: preferences are learnt, the base is never touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from adapters.artifacts.digest import adapter_digest
from adapters.intake.plain import make_plain
from adapters.validate import read_base, validate_adapter
from core.errors import Conflict, Invalid, Unavailable
from core.ids import AdapterId
from feedback.types import Label, Snapshot
from trainer.methods import METHODS
from trainer.methods.folders import scaled
from trainer.methods.loop import Training, train
from trainer.methods.method import passes
from trainer.methods.sft import Demonstration
from trainer.model.encoding import encode
from trainer.model.scoring import logprobs
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, Progress

SMALL = Hyperparameters(rank=4, alpha=8, steps=30, learning_rate=2e-3, beta=1.0)
BRIEF = replace(SMALL, steps=3)


def scored(model: WarmModel, said: list[tuple[Any, str]], adapter: Path | None) -> list[float]:
    """`logprobs` of texts as the template has them."""
    items = [encode(model.tokenizer, prompt, text) for prompt, text in said]
    return logprobs(model, [(prompt, text) for prompt, text in items], adapter)


@pytest.fixture(scope="session")
def liked(tiny_model: WarmModel, habits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter trained by KTO to open with "gladly"."""
    labels = habits.labels(tiny_model, seed=1) + habits.labels(tiny_model, seed=2)
    return train(
        tiny_model,
        Training(METHODS["kto"], labels[:32], SMALL, tmp_path_factory.mktemp("adapters") / "liked"),
    ).path


def test_thumbs_teach_a_habit_and_leave_the_facts(tiny_model, habits, liked) -> None:
    assert habits.share(tiny_model, None) < 0.7
    assert habits.share(tiny_model, liked) >= 0.9
    assert habits.right(tiny_model, liked) >= habits.right(tiny_model, None) - 0.05


def test_pairs_teach_a_habit_and_leave_the_facts(tiny_model, habits, tmp_path) -> None:
    result = train(
        tiny_model, Training(METHODS["dpo"], habits.pairs()[:12], SMALL, tmp_path / "adapter")
    )
    assert habits.share(tiny_model, result.path) >= 0.9
    assert habits.right(tiny_model, result.path) >= habits.right(tiny_model, None) - 0.05
    assert (result.method, result.start, result.steps, result.examples) == ("dpo", "fresh", 30, 12)


def test_corrections_make_corrected_answers_likelier_held_out_ones_too(
    tiny_model, habits, tmp_path
) -> None:
    corrected = [Demonstration(pair.prompt, pair.chosen) for pair in habits.pairs()]
    trained, held_out = corrected[:12], corrected[12:]
    path = train(tiny_model, Training(METHODS["sft"], trained, SMALL, tmp_path / "adapter")).path
    items = [(one.prompt, one.completion) for one in held_out]
    before, after = scored(tiny_model, items, None), scored(tiny_model, items, path)
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert habits.share(tiny_model, path) >= 0.9
    assert habits.right(tiny_model, path) >= habits.right(tiny_model, None) - 0.05


def test_sft_computes_what_plain_trl_computes_from_the_same_texts(
    tiny_model, habits, tmp_path
) -> None:
    """TRL tokenises and masks the texts itself; the order is the only thing it is given."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig, SFTTrainer

    shown = [Demonstration(pair.prompt, pair.chosen) for pair in habits.pairs()]
    steps: list[Progress] = []
    training = Training(METHODS["sft"], shown, BRIEF, tmp_path / "ours", on_progress=steps.append)
    train(tiny_model, training)
    texts = [
        {
            "prompt": list(one.prompt),
            "completion": [{"role": "assistant", "content": one.completion}],
        }
        for one in passes(shown, BRIEF.steps * BRIEF.batch_size, BRIEF.seed)
    ]
    with tiny_model.borrow() as base:
        torch.manual_seed(BRIEF.seed)
        modules = sorted(BRIEF.target_modules)
        config = LoraConfig(
            r=BRIEF.rank, lora_alpha=BRIEF.alpha, target_modules=modules, task_type="CAUSAL_LM"
        )
        plain = SFTTrainer(
            model=get_peft_model(base, config),
            processing_class=tiny_model.tokenizer,
            train_dataset=Dataset.from_list(texts),
            args=SFTConfig(
                output_dir=str(tmp_path / "plain"),
                completion_only_loss=True,
                learning_rate=BRIEF.learning_rate,
                lr_scheduler_type="linear",
                max_steps=BRIEF.steps,
                per_device_train_batch_size=BRIEF.batch_size,
                train_sampling_strategy="sequential",
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
            ),
        )
        plain.train()
    expected = [entry["loss"] for entry in plain.state.log_history if "loss" in entry]
    assert [step.metrics["loss"] for step in steps] == pytest.approx(expected, abs=1e-5)
    assert expected[-1] < expected[0]


@pytest.mark.parametrize("name", METHODS)
def test_every_registered_method_trains_a_step_on_a_snapshot(
    tiny_model, habits, tmp_path, name: str
) -> None:
    corrections = [replace(pair, origin="correction") for pair in habits.pairs()]
    snapshot = Snapshot("", AdapterId("support"), (), tuple(corrections), (), (), {})
    examples = METHODS[name].examples(snapshot)
    training = Training(METHODS[name], examples, replace(SMALL, steps=1), tmp_path / name)
    result = train(tiny_model, training)
    assert (result.method, result.steps, result.examples) == (name, 1, len(examples))
    assert scored(tiny_model, [(habits.ask("reda"), "well .")], result.path) != scored(
        tiny_model, [(habits.ask("reda"), "well .")], None
    )


def test_what_a_method_needs_is_said_when_there_is_none_of_it(tiny_model, tmp_path) -> None:
    with pytest.raises(Invalid, match="No example is left to learn from: SFT needs corrections"):
        train(tiny_model, Training(METHODS["sft"], [], BRIEF, tmp_path / "adapter"))


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
            Training(
                METHODS["dpo"],
                habits.pairs(),
                BRIEF,
                tmp_path / start,
                start=start,
                live_adapter=live,
                on_progress=steps.append,
            ),
        )
        assert [step.step for step in steps] == [1, 2, 3]
        first[start] = steps[0].metrics["rewards/margins"]
    assert first["fresh"] == pytest.approx(0.0, abs=1e-4)
    assert first["continued"] > 1.0


@pytest.mark.parametrize(
    "shape",
    [
        {"target_modules": ["embed_tokens", "q_proj"]},
        {
            "target_modules": r".*\.(q_proj|down_proj)",
            "use_rslora": True,
            "rank_pattern": {r".*\.1\..*": 2},
            "alpha_pattern": {"down_proj": 3},
        },
    ],
    ids=["an embedding", "by patterns"],
)
def test_an_adapter_somebody_brought_is_continued(
    tiny_model, tiny_model_path, habits, tmp_path, shape
) -> None:
    """PEFT writes the base's weights beside an embedding's update, which no server takes."""
    given, plain = tmp_path / "given", tmp_path / "plain"
    plain.mkdir()
    with tiny_model.borrow() as base:
        brought = get_peft_model(base, LoraConfig(r=4, **shape))
        brought.save_pretrained(given)
        brought.unload()
    known = read_base(str(tiny_model_path))
    make_plain(given, plain, known, max_rank=4)
    result = train(
        tiny_model,
        Training(
            METHODS["dpo"],
            habits.pairs(),
            BRIEF,
            tmp_path / "trained",
            start="continued",
            live_adapter=plain,
        ),
    )
    before, after = (validate_adapter(path, known, max_rank=4) for path in (plain, result.path))
    assert after.target_modules == before.target_modules
    assert after.digest != before.digest


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(
    tiny_model, habits, tmp_path
) -> None:
    digests = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = train(
            tiny_model,
            Training(
                METHODS["kto"],
                habits.labels(tiny_model, seed=1),
                replace(BRIEF, seed=seed),
                tmp_path / name,
            ),
        )
        digests.append(adapter_digest(result.path))
    assert digests[0] == digests[1] != digests[2]


def test_a_cancelled_run_leaves_nothing_behind(tiny_model, habits, tmp_path) -> None:
    seen: list[Progress] = []
    with pytest.raises(Conflict) as caught:
        train(
            tiny_model,
            Training(
                METHODS["kto"],
                habits.labels(tiny_model, seed=1),
                SMALL,
                tmp_path / "adapter",
                on_progress=seen.append,
                stop=lambda: len(seen) >= 2,
            ),
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
    before = scored(model, [(prompt, "well .") for prompt in asked], None)
    with pytest.raises(Unavailable, match="weights changed"), model.borrow() as base:
        next(base.parameters()).data[0, 0] += 1e-3
    assert scored(model, [(prompt, "well .") for prompt in asked], None) == before


def test_examples_that_do_not_fit_are_counted(tiny_model, habits, tmp_path) -> None:
    labels = habits.labels(tiny_model, seed=1)
    endless = replace(labels[0], completion="well " * 200)
    refused = replace(labels[0], prompt=({"role": "robot", "content": "hum"},))
    result = train(
        tiny_model,
        Training(
            METHODS["kto"],
            [*labels, endless, refused],
            replace(BRIEF, max_length=64),
            tmp_path / "adapter",
        ),
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
            Training(
                METHODS["kto"],
                spoil(habits.labels(tiny_model, seed=1)),
                BRIEF,
                tmp_path / "adapter",
            ),
        )


def test_scaling_keeps_the_weights_and_shrinks_the_update(tiny_model, habits, liked, tmp_path):
    half = scaled(liked, 0.5, tmp_path / "half")
    weights = "adapter_model.safetensors"
    assert (half / weights).read_bytes() == (liked / weights).read_bytes()
    assert json.loads((half / "adapter_config.json").read_text())["lora_alpha"] == 4.0
    pairs = habits.pairs()
    item = [(pairs[0].prompt, pairs[0].rejected)]
    base, some, full = (scored(tiny_model, item, path)[0] for path in (None, half, liked))
    assert base > some > full
