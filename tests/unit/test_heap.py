"""What a run has freed goes back to the system."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.worker import trim_heap


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_freed_below_what_is_kept_is_given_back() -> None:
    trim_heap()
    piece, count = 50_000, 2_000  # small enough to come from the heap
    pieces = [bytearray(os.urandom(8)) * (piece // 8) for _ in range(count)]
    kept = pieces[-1]
    full = resident_bytes()
    pieces.clear()
    trim_heap()
    assert resident_bytes() < full - 0.8 * piece * count
    assert len(kept) == piece
