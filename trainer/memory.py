"""Gives memory back to the system between two pieces of work."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Hand what is freed back to the system.

    glibc keeps it for later; but a trainer idles most of its time, beside a server that needs the
    memory, and each run would leave the heap a little more fragmented. Does nothing more than
    collect garbage under another C library.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
