"""How a server ends that is told to (SIGTERM, Ctrl-C): answers first, then the engine.

vLLM 0.32 aborts what its engine is answering as soon as the signal arrives, and then waits until
clients hang up. Here nobody new is let in, answers get `ATTUNE_DRAIN_S` to end, the rest is told
and recorded, and only then does vLLM's own way down begin, through `uvicorn.Server.should_exit` as
its watchdog has it. Can go when vLLM ends streams with an error event of their own.
Knows nothing of what a request is.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import threading
from typing import Any

from server.under_way import UnderWay
from server.vllm.signals import SIGNALS

logger = logging.getLogger("attune.server")

TOLD = threading.Event()
"""Set once this process has been told to stop."""

_COMMITS_S = 12.0  # longer than the recorder tries
_CLOSING_S = 3  # for clients that do not read what they are told
_EXIT_S = 10.0  # vLLM


class Ending:
    """The end of one server; `install` it once the server runs.

    `server`: vLLM's `uvicorn.Server`. A second signal ends the waiting, a third everything.
    """

    def __init__(self, server: Any, under_way: UnderWay, *, drain_s: float) -> None:
        self._server = server
        self._under_way = under_way
        self._drain_s = drain_s
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Take vLLM's place as the one who is signalled. Call it in the event loop."""
        self._server.config.timeout_graceful_shutdown = _CLOSING_S
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.begin)

    def begin(self) -> None:
        """What a signal does."""
        TOLD.set()
        if self._task is None:
            exit_within(self._drain_s + _COMMITS_S + _CLOSING_S + _EXIT_S)
            self._task = asyncio.get_running_loop().create_task(self._end())
        elif not self._hurry.is_set():
            exit_within(_CLOSING_S + _EXIT_S)
            self._hurry.set()
        else:
            exit_now()

    async def _end(self) -> None:
        logger.warning("Told to stop: no more requests; %g s for running ones.", self._drain_s)
        self._under_way.close()
        if not await self._empty_within(self._drain_s):
            cut_off = self._under_way.cut_off()
            logger.warning("Time is up: %d requests are cut off.", cut_off)
            await self._empty_within(_COMMITS_S)
        self._server.should_exit = True

    async def _empty_within(self, timeout_s: float) -> bool:
        ended = asyncio.ensure_future(self._under_way.empty())
        hurried = asyncio.ensure_future(self._hurry.wait())
        wanted = [ended] if self._hurry.is_set() else [ended, hurried]
        await asyncio.wait(wanted, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, hurried):
            waiting.cancel()
        return ended.done() and not ended.cancelled()


def exit_within(timeout_s: float) -> None:
    """End this process by then at the latest.

    A thread that is busy with somebody's upload would otherwise hold it for as long as it likes.
    """
    timer = threading.Timer(timeout_s, exit_now)
    timer.daemon = True
    timer.start()


def exit_now() -> None:
    """End this process and vLLM's, with status 0 and without waiting for any thread."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)
