"""The arithmetic of `attune bench adapters` and `attune bench soak`."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from deploy.bench.figures import Growth
from deploy.bench.many import counted, shares, weights
from deploy.bench.many import table as many_table
from deploy.bench.results import process_name, processor_s, resident_bytes
from deploy.bench.soak import judge, memory_of
from deploy.bench.soak import table as soak_table


def test_zipf_gives_the_second_half_of_what_the_first_gets() -> None:
    assert weights(3, "zipf") == pytest.approx([1.0, 1.5, 1.5 + 1 / 3])
    assert weights(3, "uniform") == [1.0, 2.0, 3.0]


def test_shares_are_of_the_mean_of_both_measurements_of_the_first_count() -> None:
    """(10 + 30) / 2 = 20: the 18 in between are 0.9 of it; the other draw counts for itself."""
    rates = [(5, "zipf", 10.0), (5, "uniform", 8.0), (2000, "zipf", 18.0), (2000, "uniform", 4.0)]
    rates += [(5, "zipf", 30.0), (5, "uniform", 8.0)]
    points = [{"adapters": n, "draw": d, "requests_per_s": r} for n, d, r in rates]
    assert [p["share"] for p in shares(points, 5)] == pytest.approx([0.5, 1.0, 0.9, 0.5, 1.5, 1.0])


def test_what_the_server_counted_is_the_difference_of_two_looks() -> None:
    before = {'attune_adapter_loads_total{outcome="loaded"}': 5.0}
    after = {
        'attune_adapter_loads_total{outcome="loaded"}': 7.0,
        "attune_adapter_load_seconds_count": 2.0,
        "attune_adapter_load_seconds_sum": 0.5,
        'attune_request_wait_seconds_sum{reason="slot"}': 1.5,
    }
    found = counted(Growth(before, after))
    assert (found["loads"], found["load_mean_ms"]) == (2, 250.0)
    assert (found["waited_for_slot_s"], found["waited_for_room_s"]) == (1.5, 0.0)


def test_growth_is_from_the_second_fifth_to_the_last_and_of_processes_that_last() -> None:
    """Ten samples: process 1 has 100 in the second fifth and 110 in the last; process 2 ends."""
    sizes = [50, 60, 100, 100, 104, 106, 108, 109, 110, 110]
    samples = [{1: size} | ({2: 9} if at < 9 else {}) for at, size in enumerate(sizes)]
    found = memory_of(samples, {1: "engine"})
    assert set(found) == {"engine (1)", "total"}
    assert found["engine (1)"]["growth"] == pytest.approx(0.1)


def soaked(growth: float = 0.0, **changes: object) -> dict[str, object]:
    entry = {"early_bytes": 1.0, "late_bytes": 1.0, "growth": growth}
    plain = {"minutes": 10.0, "done": {"streamed": 3}, "expected_errors": {"no JSON: 400": 2}}
    plain |= {"unexplained": {}, "runs": {"succeeded": 1}, "memory": {"total": entry}}
    return plain | {"tracebacks_in_the_log": 0, "loads": 1, "evictions": 1} | changes


def test_a_soak_fails_for_growth_for_errors_and_for_learning_nothing() -> None:
    assert judge(soaked())["failed_because"] == []
    assert len(judge(soaked(growth=0.06))["failed_because"]) == 1
    assert judge(soaked(unexplained={"streamed: 500": 2}))["failed_because"] == [
        "2 x streamed: 500"
    ]
    assert len(judge(soaked(runs={"rejected": 2}))["failed_because"]) == 1
    assert judge(soaked(minutes=2.0, runs={}))["failed_because"] == []
    soak_table(judge(soaked()))


def test_the_table_of_adapters_is_readable_in_80_columns() -> None:
    point: dict[str, object] = {"adapters": 2000, "draw": "uniform", "share": 0.987}
    point |= {"failed": 7, "loads": 12345, "evictions": 3, "requests_per_s": 123.4}
    point |= {"latency_p99_ms": 12345.0, "first_token_p99_ms": 23456.0}
    point |= {"processor_ms_per_request": 234.5, "waited_for_load_s": 1.0, "waited_for_slot_s": 2.0}
    whole: dict[str, object] = {"streams": 16, "rank": 8, "tokens": 32, "seconds": 1.0}
    whole |= {"memory_before_bytes": 1, "memory_after_bytes": 1}
    whole |= {"places": {"resident": 8, "slots": 4}, "points": [point]}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(many_table(whole))
    cells = ["2,000 uniform", "123.4", "0.99", "234.5", "12345", "23456", "12345", "7"]
    (row,) = [line for line in console.export_text().splitlines() if "uniform" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == cells


def test_memory_and_processor_time_are_those_of_a_process_and_its_descendants() -> None:
    """A child with a child of its own, which keeps 64 MiB and computes for a moment."""
    works = "x = bytearray(1 << 26); sum(range(3_000_000)); print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {works!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = resident_bytes(process.pid)
        assert len(found) == 2
        assert os.getpid() not in found
        assert max(found.values()) > 1 << 26
        assert processor_s(process.pid) > 0.02
        assert process_name(process.pid) != str(process.pid)
        process.communicate(b"\n")
    assert process_name(process.pid) == str(process.pid)
