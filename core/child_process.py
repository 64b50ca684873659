"""Child processes that do not outlive those who started them. Standard library only."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Looked up here: between fork and exec the loader's lock may be held by a thread that is no more.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def dying_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """For `preexec_fn`: on Linux the child gets `number` when the thread that starts it ends.

    However the parent ends, kill -9 among it. Elsewhere nothing happens.
    """

    def prepare() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, number)

    return prepare
