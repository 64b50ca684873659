"""What `attune bench pairs` rests on: files of pairs, the split, the accuracies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.errors import Invalid
from deploy.bench.pairs import Fit, split_by_prompt, table
from deploy.bench.preferences.accuracy import Scored, accuracies, differences, interval
from deploy.bench.preferences.reading import HumanPair, Unusable, pair_of, read_pairs

ASKED = [{"role": "user", "content": "Why?"}]
GOOD, BAD = (
    [{"role": "assistant", "content": "Because."}],
    [{"role": "assistant", "content": "No."}],
)
PAIR = HumanPair(({"role": "user", "content": "Why?"},), "Because.", "No.")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": ASKED, "chosen": "Because.", "rejected": BAD[0]},
        {"chosen": ASKED + GOOD, "rejected": ASKED + BAD},
        {"input": {"messages": ASKED}, "preferred_output": GOOD, "non_preferred_output": BAD},
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
            "chosen": GOOD,
            "rejected": BAD,
            "score": 3,
        },
    ],
)
def test_every_form_of_a_pair_is_read_alike(row: dict[str, Any]) -> None:
    assert pair_of(row) == PAIR


def test_a_prompt_within_two_texts_ends_where_words_begin_to_differ() -> None:
    found = pair_of({"chosen": "Q: why? A: because", "rejected": "Q: why? A: bears"})
    assert found.prompt[0]["content"] == "Q: why? A:"
    assert (found.chosen, found.rejected) == (" because", " bears")


def test_several_turns_of_a_chat_are_kept_as_the_prompt() -> None:
    chat = [{"role": "system", "content": "Be kind."}, *ASKED, *BAD, *ASKED]
    assert pair_of({"chosen": chat + GOOD, "rejected": chat + BAD}).prompt == tuple(chat)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rejected": [{"role": "assistant", "content": " Because.\n"}]}, "identical"),
        ({"chosen": " "}, "empty"),
        ({"chosen": []}, "empty"),
        ({"chosen": GOOD + ASKED}, "several_turns"),
        ({"chosen": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, "not_text"),
        ({"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not_text"),
        ({"chosen": "\ud800"}, "not_unicode"),
    ],
)
def test_what_cannot_be_compared_is_left_out_under_a_reason(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unusable, match=reason):
        pair_of({"prompt": ASKED, "chosen": GOOD, "rejected": BAD} | changes)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2"),
        ("[1]", "not an object"),
        ('{"prompt": "Why?", "chosen": "a"}', "rejected is missing"),
        ('{"chosen": "a", "rejected": "b"}', "nothing in common"),
        ('{"prompt": 3, "chosen": "a", "rejected": "b"}', "prompt must be"),
        ('{"prompt": "Why?", "chosen": 1, "rejected": "b"}', "chosen must be"),
        ('{"prompt": [{"content": "x"}], "chosen": "a", "rejected": "b"}', "must look like"),
        ('{"preferred_output": [], "input": {}}', "input.messages"),
        ('{"prompt": "a", "prompt": "b", "chosen": "a", "rejected": "b"}', "given twice"),
        ('{"prompt": "Why?", "chosen": NaN, "rejected": "b"}', "NaN"),
    ],
)
def test_a_line_that_is_no_pair_is_named_by_its_number(
    tmp_path: Path, line: str, told: str
) -> None:
    file = tmp_path / "pairs.jsonl"
    good = json.dumps({"prompt": "Why?", "chosen": "Because.", "rejected": "No."})
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(Invalid, match="line 2") as refusal:
        read_pairs(file)
    assert told in refusal.value.message


def test_a_file_is_read_with_its_byte_order_mark_blank_lines_and_repetitions(
    tmp_path: Path,
) -> None:
    good = json.dumps({"prompt": "Wörum? 🌍", "chosen": "Because.", "rejected": "No."})
    same = json.dumps({"prompt": "Why?", "chosen": "No.", "rejected": "No."})
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(f"\ufeff{good}\r\n\r\n{good}\n{same}".encode())
    found, left_out = read_pairs(file)
    assert [pair.prompt[0]["content"] for pair in found] == ["Wörum? 🌍"]
    assert left_out == {"repeated": 1, "identical": 1}


def test_a_file_without_a_pair_and_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(Invalid, match="holds no pair"):
        read_pairs(tmp_path / "empty.jsonl")
    with pytest.raises(Invalid, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")


def fits(prompts: int, each: int = 2) -> list[Fit]:
    return [
        Fit(
            HumanPair(({"role": "user", "content": f"prompt {p}"},), f"good {n}", "bad"),
            ([1], [2, 3], [4]),
        )
        for p in range(prompts)
        for n in range(each)
    ]


def test_the_split_keeps_a_prompt_on_one_side_and_changes_with_the_seed() -> None:
    pairs = fits(20)
    split = split_by_prompt(pairs, 0.25, seed=0)
    sides = [{one.pair.key for one in side} for side in (split.train, split.held_out)]
    assert (len(sides[0]), len(sides[1]), len(split.held_out)) == (15, 5, 10)
    assert not sides[0] & sides[1]
    other = split_by_prompt(pairs, 0.25, seed=1)
    assert {one.pair.key for one in other.held_out} != sides[1]


def test_few_prompts_have_one_on_each_side_and_one_alone_cannot_be_split() -> None:
    split = split_by_prompt(fits(2), 0.01, seed=0)
    assert (len(split.train), len(split.held_out)) == (2, 2)
    with pytest.raises(Invalid, match="two prompts"):
        split_by_prompt(fits(1), 0.5, seed=0)


def test_accuracy_counts_no_difference_as_wrong_and_length_by_token() -> None:
    """Three pairs. By answer: right, wrong (a tie), wrong. By token the last is right:
    -1 over ten tokens is more than -0.5 over two."""
    scored = [
        Scored("a", 1.0, 0.0, 2, 2),
        Scored("b", 0.0, 0.0, 2, 2),
        Scored("c", -1.0, -0.5, 10, 2),
    ]
    found = accuracies(scored)
    assert found["accuracy"]["mean"] == pytest.approx(1 / 3)
    assert found["accuracy_per_token"]["mean"] == pytest.approx(2 / 3)
    assert found["margin"]["mean"] == pytest.approx(0.5 / 3)


def test_an_interval_is_over_prompts_and_not_over_their_pairs() -> None:
    """Fifty pairs of one prompt are one draw: as wide as two pairs of two prompts."""
    few = interval(["a", "b"], [1.0, 0.0])
    many = interval(["a"] * 50 + ["b"] * 50, [1.0] * 50 + [0.0] * 50)
    apart = interval([str(n) for n in range(100)], [1.0] * 50 + [0.0] * 50)
    assert few == many == {"mean": 0.5, "low": 0.0, "high": 1.0}
    assert 0.35 < apart["low"] < 0.45 < 0.55 < apart["high"] < 0.65


def test_the_difference_is_of_the_same_pairs() -> None:
    ours = [Scored("a", 1.0, 0.0, 1, 1), Scored("b", 1.0, 0.0, 1, 1)]
    other = [Scored("a", 1.0, 0.0, 1, 1), Scored("b", 0.0, 1.0, 1, 1)]
    assert differences(ours, other)["accuracy"]["mean"] == 0.5


def test_the_table_fits_eighty_columns() -> None:
    of = {"mean": 0.61, "low": 0.5, "high": 0.72}
    found = {"accuracy": of, "accuracy_per_token": of, "margin": of, "train_s": 1234.0}
    figures = {
        "pairs": 800, "prompts": 150, "left_out": {"identical": 3}, "longer_preferred": 0.66,
        "trl": found, "ours": found, "difference": {"accuracy": of, "accuracy_per_token": of},
        "runs": [{"seed": 0, "trl": found, "ours": found}],
    }  # fmt: skip
    console = Console(width=80, record=True)
    console.print(table(figures))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "61.0% (50%-72%)" in text
