"""Checks uploads, each in a process of its own: what it costs, it costs nobody else.

Owns how many run and how long; what is checked says `adapters.intake`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from adapters.intake.process import CHILD, base_line, order_line, outcome_of
from adapters.types import ArtifactInfo
from adapters.validate import BaseModel
from core.errors import Invalid
from core.ids import TenantId
from server.turns import Turns

logger = logging.getLogger("attune.server")

_WAITING = 16


class Intake:
    """At most `at_once` checks at a time, one of each tenant; each is ended after `limit_s`."""

    def __init__(
        self,
        base: BaseModel,
        *,
        max_rank: int,
        limit_s: float,
        at_once: int,
        command: Sequence[str] = CHILD,
    ) -> None:
        self._base = base_line(base)
        self._max_rank = max_rank
        self._limit_s = limit_s
        self._command = command
        self._places = asyncio.Semaphore(at_once)
        self._turns = Turns("uploads", at_once=1, waiting=_WAITING)

    async def check(self, tenant_id: TenantId, given: Path, out: Path) -> ArtifactInfo:
        """Have the folder `given` made plain in the empty folder `out`.

        Raises Invalid or NotFound as `make_plain` does, Invalid if it takes too long. Cancelled, it
        ends its process.
        """
        order = order_line(given, out, self._max_rank) + self._base
        async with self._turns.of(tenant_id), self._places:
            try:
                return outcome_of(await asyncio.wait_for(self._run(order), self._limit_s))
            except TimeoutError as error:
                raise Invalid(
                    f"The adapter could not be checked within {self._limit_s:g} s. Upload a "
                    "smaller one, with plain names in rank_pattern and alpha_pattern, or raise "
                    "ATTUNE_UPLOAD_CHECK_S.",
                    param="file",
                ) from error

    async def _run(self, order: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # It finds what this process has found; never the network: the base is a folder.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
        try:
            told, said = await process.communicate(order)
            if process.returncode:
                logger.error(
                    "The check of an upload ended by itself. %s",
                    said[-2000:].decode(errors="replace"),
                )
            return told
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
