"""Threads: all cores while nobody else needs them, one while somebody does.

Owns the rule and its measure, the processor time of other processes. Must not know: who they are.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import psutil
import torch

_LOOK_EVERY_S = 0.5
"""Shorter, and the clock ticks of the kernel are too coarse."""
_STALE_S = 10.0
"""A look that old says nothing of now."""
_GLANCE_S = 0.2
_IDLE_SHARE = 0.125
"""Of the cores: others who use less are idle. A quiet server uses a few percent of one core."""


class Threads:
    """How many threads torch works with: `fixed`, or by what other processes do where it is 0."""

    def __init__(self, fixed: int = 0) -> None:
        self._fixed = fixed
        self._most = max(1, torch.get_num_threads())
        self._at_s, self._others_s = -math.inf, 0.0
        self._count = fixed or self._most
        if fixed:
            torch.set_num_threads(fixed)

    def adapt(self) -> int:
        """Set torch's threads, by what others used since the last look; how many there are now.

        To be called between pieces of work; after a rest it waits for a moment to look anew.
        """
        if self._fixed or self._most == 1:
            return self._count
        if time.monotonic() - self._at_s > _STALE_S:
            self._at_s, self._others_s = time.monotonic(), others_s()
            time.sleep(_GLANCE_S)
        elif time.monotonic() - self._at_s < _LOOK_EVERY_S:
            return self._count
        used_s, now_s = others_s(), time.monotonic()
        used = (used_s - self._others_s) / (now_s - self._at_s)
        self._at_s, self._others_s = now_s, used_s
        self._count = threads(self._most, used)
        torch.set_num_threads(self._count)
        return self._count


def threads(cores: int, used_by_others: float) -> int:
    """All `cores` while others use less than an eighth of them, else one."""
    return cores if used_by_others < _IDLE_SHARE * cores else 1


def others_s() -> float:
    """Processor seconds that everybody but this process has used so far, on the cores it may use.

    In a container with a processor limit, only what is in the container counts.
    """
    own = psutil.Process().cpu_times()
    group = _group_s()
    if group is None:
        mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        group = sum(
            times.user + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0)
            + getattr(times, "nice", 0.0)
            for core, times in enumerate(psutil.cpu_times(percpu=True))
            if mine is None or core in mine
        )  # fmt: skip
    return group - own.user - own.system


def _group_s() -> float | None:
    """What the container has used, where it has a processor limit. Source: cgroup v2, cpu.stat."""
    folder = Path("/sys/fs/cgroup")
    try:
        if (folder / "cpu.max").read_text().startswith("max"):
            return None
        lines = (folder / "cpu.stat").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("usage_usec"))
