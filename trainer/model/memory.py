"""Memory: how much of it is free, and whether an error says that there was none.

Must not know: what needs it.
"""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import torch

# (limit, usage) of the control group a container runs in: version 2, version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_bytes(device: torch.device, most_bytes: int = 0) -> int:
    """What this process can still take on `device`, of `most_bytes` in all where that is over 0."""
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        # What torch has reserved and not handed out is ours to use again.
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - held
    else:
        held = psutil.Process().memory_info().rss
        free = min(psutil.virtual_memory().available, *_limits())
    return max(0, min(free, most_bytes - held) if most_bytes else free)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough of it: torch says so in a type on GPUs, in words on CPUs."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in words or "not enough memory" in words
    )


def _limits() -> list[int]:
    """What limits on this process and on its container leave, in bytes."""
    found = []
    for limit, usage in _GROUPS:
        try:
            most, used = Path(limit).read_text().strip(), int(Path(usage).read_text())
        except (OSError, ValueError):
            continue
        if most != "max":
            found.append(int(most) - used)
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        found.append(soft - psutil.Process().memory_info().vms)
    return found or [2**62]
