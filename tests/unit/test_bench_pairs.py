"""What `attune bench pairs` rests on: files of pairs, the split, the accuracies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from core.errors import Invalid
from deploy.bench.pairs import Fit, split_by_prompt, table
from deploy.bench.preferences.accuracy import Scored, accuracies, differences, interval
from deploy.bench.preferences.reading import HumanPair, read_pairs


@pytest.mark.parametrize("line", ["{", "\\x00", '{"prompt": "a", "chosen": NaN}'])
def test_a_line_that_is_no_json_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "pairs.jsonl"
    good = json.dumps({"prompt": "Why?", "chosen": "Because.", "rejected": "No."})
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(Invalid, match="line 2: The line is not valid JSON"):
        read_pairs(file)


def test_what_cannot_be_compared_is_left_out_and_counted_by_its_reason(tmp_path: Path) -> None:
    """Forms and reasons are those of imported rows; a byte order mark and blank lines are none."""
    good = json.dumps({"prompt": "Wörum? 🌍", "chosen": "Because.", "rejected": "No."})
    talk = [{"role": "user", "content": "Q: why?"}]
    answers = [[*talk, {"role": "assistant", "content": text}] for text in ("Because.", "No.")]
    shared = json.dumps({"chosen": answers[0], "rejected": answers[1]})
    texts = json.dumps({"chosen": "Q: why? A: because", "rejected": "Q: why? A: No."})
    same = json.dumps({"prompt": "Why?", "chosen": "No.", "rejected": "No."})
    file = tmp_path / "pairs.jsonl"
    lines = (f"\ufeff{good}\r\n", good, same, '{"prompt": "x"}', same, shared, texts)
    file.write_bytes("\n".join(lines).encode())
    found, left_out = read_pairs(file)
    asked = [pair.prompt[0]["content"] for pair in found]
    assert asked == ["Wörum? 🌍", "Q: why?", "Q: why? A:"]
    assert [pair.rejected for pair in found] == ["No."] * 2 + [" No."]
    assert left_out.pop("repeated") == 1
    assert sorted(left_out.values()) == [1, 2]
    assert any("the same text as the better answer" in reason for reason in left_out)


def test_a_file_without_a_pair_and_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(Invalid, match="holds no pair"):
        read_pairs(tmp_path / "empty.jsonl")
    with pytest.raises(Invalid, match="no file"):
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
