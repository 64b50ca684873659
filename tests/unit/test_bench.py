"""The benchmarks' own arithmetic: what counts as a failed, cut or mixed answer, what a gap is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapters.validate import read_base, validate_adapter
from core.settings import SHIPPED_MODEL
from deploy.bench import edge, growth, lora, many, overhead, soak, swap
from deploy.bench.adapters import MODULES, write_adapter
from deploy.bench.figures import (
    Growth,
    first_tokens_ms,
    gaps_ms,
    longest_gaps_ms,
    percentile,
    spread,
    tokens_per_s,
)
from deploy.bench.lora import summary
from deploy.bench.results import cpu_model, surroundings, write_result
from deploy.bench.stream import Answer, Judged, judge

ROOT = Path(__file__).parents[2]
OWN = {("a@1", 0): [1, 2, 3], ("a@2", 0): [1, 5, 6]}


def event(model: str, tokens: list[int], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": "x"}, "token_ids": tokens, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": model, "choices": [choice]}).encode()


def answer(*lines: bytes) -> Answer:
    made = Answer(0)
    for at, line in enumerate(lines):
        made.take(line, float(at))
    return made


def whole(model: str, tokens: list[int]) -> Answer:
    pieces = [event(model, [token]) for token in tokens[:-1]]
    return answer(*pieces, event(model, tokens[-1:], "length"), b"", b"data: [DONE]")


def verdict(made: Answer) -> tuple[int, int, int]:
    judged = judge([made], OWN, lengths=(3,))
    return judged.failed, judged.truncated, judged.mixed


def test_an_answer_that_is_its_versions_own_is_right() -> None:
    assert verdict(whole("a@1", [1, 2, 3])) == (0, 0, 0)
    assert verdict(whole("a@2", [1, 5, 6])) == (0, 0, 0)


def test_one_token_of_the_other_version_makes_an_answer_mixed() -> None:
    assert verdict(whole("a@1", [1, 2, 6])) == (0, 0, 1)
    assert verdict(whole("a@2", [1, 2, 3])) == (0, 0, 1)


def test_two_names_in_one_stream_make_an_answer_mixed() -> None:
    two = answer(event("a@1", [1, 2]), event("a@2", [3], "length"), b"data: [DONE]")
    assert verdict(two) == (0, 0, 1)


def test_an_answer_by_neither_version_is_mixed() -> None:
    assert verdict(whole("base", [1, 2, 3])) == (0, 0, 1)


@pytest.mark.parametrize(
    "lines",
    [
        (event("a@1", [1, 2]), event("a@1", [3]), b"data: [DONE]"),  # no finish reason
        (event("a@1", [1, 2]), event("a@1", [3], "length")),  # no [DONE]
        (event("a@1", [1, 2], "stop"), b"data: [DONE]"),  # too few tokens
        (),
    ],
)
def test_an_answer_without_its_end_is_truncated(lines: tuple[bytes, ...]) -> None:
    assert verdict(answer(*lines)) == (0, 1, 0)


@pytest.mark.parametrize("line", [b'data: {"error": {"message": "no"}}', b"data: {"])
def test_an_error_in_the_stream_is_a_failure(line: bytes) -> None:
    assert verdict(answer(event("a@1", [1]), line)) == (1, 0, 0)


def test_each_answer_counts_once() -> None:
    answers = [whole("a@1", [1, 2, 3]), whole("a@1", [9, 9, 9]), answer()]
    assert judge(answers, OWN, lengths=(3,)) == Judged(answers=3, failed=0, truncated=1, mixed=1)


def test_gaps_are_between_arrivals_of_tokens_within_an_answer() -> None:
    """Tokens at 0, 1 and 2 s; the empty first chunk and the end bring none."""
    made = answer(
        event("a@1", [1]), event("a@1", [2, 7]), event("a@1", [3]), event("a@1", [], "length")
    )
    assert gaps_ms([made, made]) == [1000.0] * 4
    assert tokens_per_s([made], 2.0) == 2.0


def test_the_first_token_counts_from_the_request() -> None:
    one, none = Answer(0, began_s=1.0), Answer(0, began_s=1.0)
    one.arrivals_s = [1.5, 9.0]
    assert first_tokens_ms([one, none]) == [500.0]


def test_the_stall_of_a_swap_is_the_longest_gap_that_touches_it() -> None:
    """Gaps [0, 1] and [1, 4] in one answer, [2, 3] in another; nothing after 4 s."""
    one, two = Answer(0), Answer(0)
    one.arrivals_s, two.arrivals_s = [0.0, 1.0, 4.0], [2.0, 3.0]
    windows = [(0.2, 0.5), (2.5, 2.6), (5.0, 6.0)]
    assert longest_gaps_ms([one, two], windows) == [1000.0, 3000.0]


def test_percentiles_lie_linearly_between_values() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([], 99) == 0.0
    assert spread([1.0, 2.0, 3.0, 4.0]) == {"p50": 2.5, "p99": pytest.approx(3.97), "max": 4.0}


def test_a_histograms_mean_is_of_what_came_between_two_looks() -> None:
    """Two loads of together 0.5 s: 250 ms each."""
    before = {"load_sum": 1.0, "load_count": 4.0}
    grown = Growth(before, {"load_sum": 1.5, "load_count": 6.0})
    assert grown.mean_ms("load") == 250.0
    assert (grown.of("no_such_series"), grown.mean_ms("no_such")) == (0.0, 0.0)


def test_ratios_are_taken_between_neighbours_before_the_median() -> None:
    """Decode: 50/100, 80/100, 300/1000 → 0.5, 0.8, 0.3, median 0.5; prefill: all 0.1."""
    figures = summary(
        {
            "decode_base": [100.0, 100.0, 1000.0],
            "decode_mixed": [50.0, 80.0, 300.0],
            "prefill_base": [10.0, 10.0, 10.0],
            "prefill_mixed": [1.0, 1.0, 1.0],
        }
    )
    assert (figures["decode_ratio"], figures["prefill_ratio"]) == (0.5, 0.1)
    assert figures["decode_base_tokens_per_s"] == 100.0


def test_a_random_adapter_passes_the_door_and_is_its_seeds_own(tmp_path: Path) -> None:
    base = read_base(str(SHIPPED_MODEL))
    info = validate_adapter(write_adapter(tmp_path / "a", base, seed=1, rank=4), base, max_rank=4)
    again = write_adapter(tmp_path / "b", base, seed=1, rank=4)
    other = write_adapter(tmp_path / "c", base, seed=2, rank=4)
    assert (info.rank, set(info.target_modules)) == (4, set(MODULES))
    assert validate_adapter(again, base, max_rank=4).digest == info.digest
    assert validate_adapter(other, base, max_rank=4).digest != info.digest


def test_the_processors_model_is_read_from_proc() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2GHz\n") == "Some CPU @ 2GHz"


@pytest.mark.parametrize("benchmark", [edge, lora, many, overhead, soak, swap])
def test_the_figures_in_the_repository_are_shown_whole_in_80_columns(benchmark: Any) -> None:
    name = benchmark.__name__.rpartition(".")[2].replace("many", "adapters")
    figures = json.loads((ROOT / f"deploy/bench/results/{name}.json").read_text())["figures"]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(benchmark.table(figures))
    shown = console.export_text()
    assert len(shown.splitlines()) > 8
    assert "…" not in shown


def test_a_result_says_where_when_and_with_what_it_was_measured(tmp_path: Path) -> None:
    path = write_result("swap", surroundings(), {"p50": 1.23456}, tmp_path / "results")
    result = json.loads(path.read_text())
    assert path.name == "swap.json"
    assert result["figures"] == {"p50": 1.235}
    assert set(result["hardware"]) == {"cpu", "cores", "memory_gib"}
    assert result["hardware"]["memory_gib"] > 0.5
    assert set(result["versions"]) == {"attune", "vllm", "torch", "python"}
    assert all(result["versions"].values())
    assert result["date"].endswith("+00:00")


def test_growth_is_told_as_an_exponent_and_a_slow_look_as_a_failure() -> None:
    """From 1,000 to 10,000: 0.1 s to 1 s in proportion, 0.1 s to 10 s with the square."""
    small = {"look_first_s": 0.1, "look_again_s": 0.1, "writes_per_s": 9.0, "look_peak_mib": 9.0}
    large = {**small, "look_first_s": 1.0, "look_again_s": 10.0}
    exponents = growth._exponents({"1000": small, "10000": large})
    assert exponents["1000 to 10000"] == pytest.approx({"look_first_s": 1.0, "look_again_s": 2.0})
    sizes = {"1000": small, "10000": large, "exponents": exponents}
    figures = {"sqlite": sizes, "postgres": {"skipped": "skipped: no wheel"}}
    assert growth._too_slow(figures) == [
        "sqlite: a look at 10000 thumbs took 10.0 s, over 5 s",
    ]


def test_growths_table_has_a_column_for_each_size_and_says_what_was_skipped() -> None:
    size = dict.fromkeys(growth._ROWS, 1.5)
    figures = {
        "sqlite": {"1000": size, "exponents": {}},
        "postgres": {"skipped": "skipped: no wheel"},
        "failed_because": [],
    }
    shown = io.StringIO()
    Console(file=shown, width=200).print(growth.table(figures))
    assert "sqlite 1,000" in shown.getvalue()
    assert "postgres: skipped: no wheel" in shown.getvalue()
