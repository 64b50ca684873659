"""The tables of `attune bench adapters` and `attune bench soak`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_MIB = 2**20


def many_table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench adapters` shows."""
    places = figures["places"]
    table = Table(
        title=f"{figures['streams']} clients over registered adapters of rank {figures['rank']}; "
        f"{places['resident']} resident (ATTUNE_MAX_CPU_LORAS), {places['slots']} in one step "
        "(ATTUNE_MAX_LORAS)"
    )
    table.add_column("adapters, draw", no_wrap=True)
    for column in ("req/s", "share", "CPU ms", "p99 ms", "first token p99", "loads", "failed"):
        table.add_column(column, justify="right")
    points = figures["points"]
    for point in points:
        table.add_row(
            f"{point['adapters']:,} {point['draw']}",
            f"{point['requests_per_s']:.1f}",
            f"{point['share']:.2f}",
            f"{point['processor_ms_per_request']:.1f}",
            f"{point['latency_p99_ms']:.0f}",
            f"{point['first_token_p99_ms']:.0f}",
            str(point["loads"]),
            str(point["failed"]),
        )
    before, after = figures["memory_before_bytes"], figures["memory_after_bytes"]
    table.caption = (
        f"{figures['seconds']:.0f} s each, answers of {figures['tokens']} tokens. In all "
        f"{sum(point['evictions'] for point in points)} evictions; waited for loads "
        f"{sum(point['waited_for_load_s'] for point in points):.1f} s, for slots "
        f"{sum(point['waited_for_slot_s'] for point in points):.1f} s. Memory of all "
        f"processes: {before / _MIB:,.0f} MiB without adapters, {after / _MIB:,.0f} MiB at the end."
    )
    return table


def soak_table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench soak` shows."""
    table = Table(title=f"{figures['minutes']:g} minutes of everything at once")
    table.add_column("")
    table.add_column("", justify="right")
    for kind, count in figures["done"].items():
        table.add_row(kind, f"{count:,}")
    for kind, count in figures["expected_errors"].items():
        table.add_row(f"expected: {kind}", f"{count:,}")
    table.add_row("unexplained errors", str(sum(figures["unexplained"].values())))
    table.add_row("loads / evictions", f"{figures['loads']:,} / {figures['evictions']:,}")
    for state, count in figures["runs"].items():
        table.add_row(f"training runs {state}", str(count))
    table.add_row("tracebacks in the log", str(figures["tracebacks_in_the_log"]))
    for name, entry in figures["memory"].items():
        table.add_row(
            f"memory of {name}, MiB",
            f"{entry['early_bytes'] / _MIB:,.0f} → {entry['late_bytes'] / _MIB:,.0f} "
            f"({100 * entry['growth']:+.1f}%)",
        )
    table.caption = "Failed: " + "; ".join(figures["failed_because"] or ["nothing"])
    return table
