"""The memory and the processor time of a server's processes, from /proc. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def resident_bytes(session: int, root: Path = _PROC) -> dict[int, int]:
    """Resident bytes by process id, of the processes of one session (a server has its own)."""
    return {
        pid: int(fields[21]) * _PAGE_BYTES
        for pid, fields in _processes(session, root)
        if fields[21] != "0"
    }


def processor_s(session: int, root: Path = _PROC) -> float:
    """Seconds of processor time that the session's processes have used so far."""
    ticks = sum(int(f[11]) + int(f[12]) for _, f in _processes(session, root))
    return ticks / _TICKS_PER_S


def _processes(session: int, root: Path) -> Iterator[tuple[int, list[str]]]:
    """Fields of /proc/PID/stat from the third on (proc(5) counts them from 1: ours is 3 less)."""
    for folder in root.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The second field, a name in brackets, may hold anything.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if int(fields[3]) == session:
            yield int(folder.name), fields


def process_name(pid: int, root: Path = _PROC) -> str:
    """What the process calls itself, or the end of its command line."""
    try:
        words = (root / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return str(pid)
    text = " ".join(word.decode(errors="replace") for word in words if word)
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
