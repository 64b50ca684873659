"""A training that does not fit says so before its first step; one that does is laid out to."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from core.errors import Invalid
from trainer.methods import METHODS
from trainer.methods.fitting import Cost, Fit, Work, fit, work_of
from trainer.methods.loop import Training, train
from trainer.model.precision import in_bfloat16
from trainer.model.threads import Threads, others_s, threads
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, Progress

COST = Cost(fixed_bytes=1000, token_bytes=100, checkpointed_token_bytes=10, token_s=0.01)
WORK = Work(longest=50, learnt=1000, read=200)
BRIEF = Hyperparameters(rank=4, alpha=8, steps=3, learning_rate=2e-3, beta=1.0)


def test_with_much_memory_as_many_tokens_as_are_enough_go_at_once() -> None:
    """Time: 1000 tokens forward and 1.3 times that back, 200 forward, 0.01 s each."""
    found = fit(COST, WORK, 10**6, 512, None)
    assert (found.tokens_at_once, found.checkpointing) == (512, False)
    assert found.memory_bytes == 1000 + 512 * 100
    assert found.seconds == pytest.approx(0.01 * (1000 * 2.3 + 200))


def test_with_less_memory_fewer_go_at_once() -> None:
    """0.8 of 10,000 bytes less 1,000 hold 70 tokens."""
    assert fit(COST, WORK, 10_000, 512, None).tokens_at_once == 70


def test_where_the_longest_example_would_not_fit_less_is_kept_and_it_takes_longer() -> None:
    """0.8 of 5,000 bytes less 1,000 hold 30 tokens of 100 bytes, or 300 of 10."""
    found = fit(COST, WORK, 5_000, 512, None)
    assert (found.tokens_at_once, found.checkpointing) == (300, True)
    assert found.seconds == pytest.approx(0.01 * (1000 * 3.3 + 200))


@pytest.mark.parametrize(("free", "asked"), [(1_500, None), (5_000, False), (0, True)])
def test_what_does_not_fit_in_any_way_is_refused_with_what_to_do(free: int, asked) -> None:
    with pytest.raises(Invalid, match=r"does not fit.*50 tokens.*Lower ATTUNE_TRAIN_MAX_LENGTH"):
        fit(COST, WORK, free, 512, asked)


def test_the_reference_is_counted_once_for_each_distinct_answer() -> None:
    one = {"prompt_ids": [1] * 4, "completion_ids": [2] * 6, "KL_completion_ids": [3] * 2}
    two = {"prompt_ids": [1] * 4, "completion_ids": [3] * 2, "KL_completion_ids": [2] * 6}
    work = work_of([one, two, one, two], ("completion_ids", "KL_completion_ids"), 0.25)
    assert work == Work(longest=10, learnt=10 + 6 + 10 + 6, read=(6 + 10 + 6 + 10) // 4 + 10 + 6)


def test_a_pair_counts_as_both_of_its_sides() -> None:
    pair = {"prompt_ids": [1] * 4, "chosen_ids": [2] * 6, "rejected_ids": [3] * 2}
    work = work_of([pair, pair], ("chosen_ids", "rejected_ids"), 0.0)
    assert work == Work(longest=2 * 10, learnt=2 * (10 + 6), read=10 + 6)


def test_a_training_tells_what_it_takes_before_it_begins(tiny_model, habits, tmp_path) -> None:
    told: list[Fit | Progress] = []
    training = Training(
        METHODS["dpo"],
        habits.pairs()[:8],
        BRIEF,
        tmp_path / "adapter",
        on_progress=told.append,
        on_fit=told.append,
    )
    train(tiny_model, training)
    assert [type(one).__name__ for one in told] == ["Fit", "Progress", "Progress", "Progress"]
    assert isinstance(told[0], Fit)
    assert told[0].seconds > 0
    assert told[0].memory_bytes > 0


def test_a_training_that_takes_too_long_is_not_begun(tiny_model, habits, tmp_path) -> None:
    steps: list[Progress] = []
    training = Training(
        METHODS["dpo"],
        habits.pairs()[:8],
        replace(BRIEF, steps=200),
        tmp_path / "adapter",
        on_progress=steps.append,
        most_s=0.01,
    )
    with pytest.raises(Invalid, match="over ATTUNE_TRAINER_MAX_S"):
        train(tiny_model, training)
    assert steps == []
    assert not training.out.exists()


def test_a_base_model_that_is_larger_than_the_memory_is_not_loaded(tiny_model_path) -> None:
    assert WarmModel(str(tiny_model_path)).parameters > 0
    with pytest.raises(Invalid, match=r"does not fit into the trainer's memory: it takes \d"):
        _ = WarmModel(str(tiny_model_path), device="cpu", most_bytes=1).parameters


def test_four_bits_without_the_package_is_said(tiny_model, habits, tmp_path) -> None:
    how = replace(BRIEF, load_in_4bit=True)
    with pytest.raises(Invalid, match="bitsandbytes"):
        train(tiny_model, Training(METHODS["dpo"], habits.pairs(), how, tmp_path / "adapter"))
    assert tiny_model.parameters > 0  # it serves the next one as before


def test_bfloat16_is_for_processors_that_have_it_and_models_that_are_worth_it(monkeypatch) -> None:
    cpu, small, large = torch.device("cpu"), 3_600_000, 135_000_000
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has_it: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert in_bfloat16(cpu, large, "auto") is has_it
        assert not in_bfloat16(cpu, small, "auto")
        assert not in_bfloat16(cpu, large, "float32")
    with pytest.raises(Invalid, match="ATTUNE_TRAINER_DEVICE=cpu"):
        in_bfloat16(torch.device("cuda"), large, "float32")


@pytest.mark.parametrize(("cores", "others", "expected"), [
    (2, 0.1, 2), (2, 0.3, 1), (2, 2.0, 1), (16, 1.5, 16), (16, 2.5, 1), (1, 0.0, 1),
])  # fmt: skip
def test_all_cores_while_others_are_idle_and_one_while_they_are_not(
    cores: int, others: float, expected: int
) -> None:
    assert threads(cores, others) == expected


def test_a_fixed_number_of_threads_stays(monkeypatch) -> None:
    before = torch.get_num_threads()
    try:
        assert Threads(3).adapt() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_what_another_process_computes_is_seen_and_what_this_one_does_is_not_counted() -> None:
    """A child says what processor time it used itself; the kernel counts in hundredths."""
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(time.process_time())"
    before = others_s()
    child = subprocess.run([sys.executable, "-c", burn], capture_output=True, text=True, check=True)
    used = float(re.findall(r"[\d.]+", child.stdout)[0])
    assert others_s() - before >= used - 0.1
