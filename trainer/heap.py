"""The heap of the trainer's process: what is freed in it goes back to the system."""

from __future__ import annotations

import ctypes
import gc


def trim_heap() -> None:
    """Hand what is freed back to the system.

    glibc keeps it for later; but a trainer idles most of its time, beside a server that needs the
    memory, and each run would leave the heap a little more fragmented. Does nothing more than
    collect garbage under another C library.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
