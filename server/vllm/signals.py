"""Signals that vLLM 0.32's child processes must not heed while the server has answers to finish.

Ctrl-C and systemd signal every process of a server at once, and an engine that is told to stop
aborts what it is answering. So a running server has its engine and workers ignore SIGTERM and
SIGINT, and lets go of them once nothing is under way; if it dies before, they die with it. Can go
when vLLM's engine waits for its API server.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Any

from core.child_process import dying_with_parent

logger = logging.getLogger("attune.server")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HOLD = "attune_hold_signals"
_PATIENCE_S = 2.0

_former: dict[signal.Signals, Any] = {}


def install() -> None:
    """Give vLLM's engine and workers the method that is called from the server."""
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.worker.worker_base import WorkerBase

    def all_hold(self: Any, held: bool) -> None:
        hold(held)
        self.collective_rpc(_HOLD, args=(held,))

    setattr(EngineCore, _HOLD, all_hold)
    setattr(WorkerBase, _HOLD, lambda self, held: hold(held))


def hold(held: bool) -> None:
    """Ignore SIGNALS in this process, or handle them as before. Called in its main thread."""
    for number in SIGNALS:
        if held and number not in _former:
            _former[number] = signal.signal(number, signal.SIG_IGN)
        elif not held and number in _former:
            signal.signal(number, _former.pop(number))
    if held:
        dying_with_parent(signal.SIGKILL)()


class EngineSignals:
    """Those of one running engine, of all its processes."""

    def __init__(self, engine_client: Any) -> None:
        self._client = engine_client

    async def hold(self) -> None:
        """Have them ignored."""
        await self._client.engine_core.call_utility_async(_HOLD, True)

    async def release(self) -> None:
        """Have them heeded again. An engine that does not answer is ended all the same."""
        with suppress(Exception):  # vLLM raises whatever its engine raised
            await asyncio.wait_for(
                self._client.engine_core.call_utility_async(_HOLD, False), _PATIENCE_S
            )
