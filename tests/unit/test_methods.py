"""Training methods without training: what each learns from, in which order, and which is used."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any, get_args

import pytest

from adapters.recipe import Recipe
from adapters.types import Learning, MethodChoice, Version
from core.errors import Invalid
from core.ids import AdapterId, Digest
from feedback.types import Label, Pair, Snapshot
from trainer.methods import METHODS
from trainer.methods.kto import Thumb, label_weights
from trainer.methods.method import interleaved_passes, passes
from trainer.methods.sft import Demonstration
from trainer.runs.plan import can_continue, candidates, method_for
from trainer.types import Hyperparameters

BRIEF = Hyperparameters(batch_size=4, steps=6, seed=3)


def label(n: int, desirable: bool = True) -> Label:
    return Label(f"question {n}", f"answer {n}", desirable, None, None, 0.0, (), ())


def pair(n: int, origin: Any = "comparison") -> Pair:
    return Pair(f"question {n}", f"answer {n}", "no", origin, None, None, 0.0, (), ())


def snapshot(labels: int = 0, pairs: int = 0, held_out_pairs: int = 0) -> Snapshot:
    return Snapshot(
        digest="",
        adapter_id=AdapterId("support"),
        train_labels=tuple(label(n) for n in range(labels)),
        train_pairs=tuple(pair(100 + n) for n in range(pairs)),
        held_out_labels=(),
        held_out_pairs=tuple(pair(200 + n) for n in range(held_out_pairs)),
        dropped={},
    )


def digest(rows: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def test_each_method_is_registered_under_its_own_name() -> None:
    assert {name: method.name for name, method in METHODS.items()} == {n: n for n in METHODS}


def test_an_adapter_may_ask_for_any_registered_method() -> None:
    assert set(get_args(MethodChoice)) == {"auto", *METHODS}


def test_the_registry_loads_no_training_library() -> None:
    watched = "{'torch', 'trl', 'transformers', 'json'}"
    loaded = f"import sys, trainer.methods; print(*({watched} & {{*sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["json"]  # so it would have seen the others


@pytest.mark.parametrize(
    ("labels", "pairs", "held_out_pairs", "expected"),
    [
        (0, 16, 0, "dpo"),
        (32, 12, 4, "dpo"),  # held-out pairs count; half as many as labels is enough
        (33, 12, 4, "kto"),
        (0, 15, 0, "kto"),  # fewer than min_pairs
        (0, 0, 0, "kto"),
    ],
)
def test_dpo_is_used_where_pairs_carry_most_and_kto_otherwise(
    labels: int, pairs: int, held_out_pairs: int, expected: str
) -> None:
    assert method_for(snapshot(labels, pairs, held_out_pairs), Learning(min_pairs=16)) == expected


def test_an_adapter_that_asks_for_a_method_gets_it() -> None:
    assert method_for(snapshot(pairs=16), Learning(method="sft")) == "sft"
    assert method_for(snapshot(pairs=16), Learning(method="kto")) == "kto"


def test_a_method_this_trainer_does_not_know_is_named() -> None:
    with pytest.raises(Invalid, match="no method 'orpo': set"):
        method_for(snapshot(), Learning(method="orpo"))  # type: ignore[arg-type]


def test_a_live_version_is_also_trained_further() -> None:
    rules = Learning(method="sft")
    assert [c.name for c in candidates(snapshot(), rules, has_live=False)] == ["sft-fresh"]
    both = [c.name for c in candidates(snapshot(), rules, has_live=True)]
    assert both == ["sft-fresh", "sft-continued"]


def test_each_start_is_tried_at_each_of_several_learning_rates() -> None:
    def names(rate: Any, *, has_live: bool) -> list[str]:
        rules = Learning(method="sft", recipe=Recipe(learning_rate=rate))
        return [c.name for c in candidates(snapshot(), rules, has_live=has_live)]

    assert names(1e-4, has_live=False) == names((1e-4,), has_live=False) == ["sft-fresh"]
    assert names((1e-4, 0.003), has_live=True) == [
        "sft-fresh-lr0.0001",
        "sft-fresh-lr0.003",
        "sft-continued-lr0.0001",
        "sft-continued-lr0.003",
    ]


def test_a_live_version_with_an_update_of_the_head_is_not_trained_further() -> None:
    def live(*targets: str) -> Version:
        return Version(
            1, AdapterId("ada"), 1, "live", Digest("0" * 64), 1, 4, targets, "upload", None, None,
            0.0, "",
        )  # fmt: skip

    assert can_continue(live("q_proj", "embed_tokens"))
    assert not can_continue(live("lm_head", "q_proj"))
    assert not can_continue(None)


def test_kto_reads_labels_and_what_pairs_say_beyond_them() -> None:
    known = replace(snapshot(labels=1), train_pairs=(pair(0), pair(7)))
    found = METHODS["kto"].examples(known)
    assert [(one.completion, one.desirable) for one in found] == [
        ("answer 0", True),
        ("no", False),
        ("answer 7", True),
        ("no", False),
    ]


def test_dpo_reads_pairs_alone() -> None:
    assert METHODS["dpo"].examples(snapshot(labels=3, pairs=2)) == [pair(100), pair(101)]


def test_sft_reads_what_people_wrote_and_not_what_the_model_said() -> None:
    said = replace(snapshot(labels=3), train_pairs=(pair(1), pair(2, "correction")))
    assert METHODS["sft"].examples(said) == [Demonstration("question 2", "answer 2")]


def test_the_order_of_ktos_rows_is_that_of_the_first_release() -> None:
    """Recorded then: another order would make other weights of the same feedback."""
    labels = [(Thumb("q", "a", n < 5), ([n], [100 + n])) for n in range(16)]
    rows = METHODS["kto"].rows(labels, BRIEF)
    kept = [{name: row[name] for name in row if name != "KL_completion_ids"} for row in rows]
    assert kept[0] == {"prompt_ids": [12], "completion_ids": [112], "label": False}
    assert len(rows) == 24
    assert digest(kept) == "4619694e1d260e8136f4579d55999325ff6f68f2cb387c64b37495752332155f"


def test_ktos_kl_term_reads_one_other_answer_per_example_at_every_visit() -> None:
    """So that the reference reads it once. With its prompt it is never longer than a row may be."""
    labels = [(Thumb("q", "a", n < 5), ([n] * 4, [100 + n] * 5)) for n in range(16)]
    rows = METHODS["kto"].rows(labels, replace(BRIEF, steps=12, max_length=9))
    others = {(row["prompt_ids"][0], row["KL_completion_ids"][0]) for row in rows}
    assert len(rows) > len(others) == 16
    assert {other for _, other in others} == {100 + n for n in range(16)}
    assert all(other != 100 + prompt for prompt, other in others)
    cut = METHODS["kto"].rows(labels, replace(BRIEF, max_length=6))
    assert {len(row["KL_completion_ids"]) for row in cut} == {2}


def test_the_rows_of_dpo_are_those_of_the_first_release() -> None:
    """Recorded then: another order would make other weights of the same feedback."""
    pairs = [(pair(n), ([n], [100 + n], [200 + n])) for n in range(16)]
    rows = METHODS["dpo"].rows(pairs, replace(BRIEF, steps=12))
    assert len(rows) == 24
    assert digest(rows) == "540c8939e61b2dc777a83d405493d4d24a1492623a693788c552a86f9c0d05f3"


def test_sft_learns_the_completion_and_only_reads_the_prompt() -> None:
    shown = [(Demonstration("q", "a"), ([1, 2], [3, 4]))]
    rows = METHODS["sft"].rows(shown, replace(BRIEF, batch_size=1, steps=2))
    assert rows == [{"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]}] * 2


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


@pytest.mark.parametrize(("ups", "downs"), [(8, 24), (20, 10), (100, 10), (1, 1), (16, 112)])
def test_liked_answers_together_pull_two_and_a_half_times_as_hard(ups: int, downs: int) -> None:
    up, down = label_weights(ups=ups, downs=downs)
    assert up * ups == pytest.approx(2.5 * down * downs)
    assert min(up, down) == 1.0
