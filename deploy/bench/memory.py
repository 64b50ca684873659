"""The memory of a server's processes, from /proc. Linux only."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(session: int, root: Path = Path("/proc")) -> dict[int, int]:
    """Resident bytes by process id, of the processes of one session (a server has its own)."""
    found = {}
    for folder in root.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The second field, a name in brackets, may hold anything.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if int(fields[3]) == session and (resident := int(fields[21])):
            found[int(folder.name)] = resident * _PAGE_BYTES
    return found


def process_name(pid: int, root: Path = Path("/proc")) -> str:
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
