"""Our end of the process that tries grammars; see `server.vllm.grammars`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.child_process import dying_with_parent
from core.errors import Unavailable
from server.engine.grammars import Grammar, Verdict

logger = logging.getLogger("attune.server")

_ROOT = Path(__file__).resolve().parents[3]
_START_S = 60.0
_GRACE_S = 5.0


class GrammarProcess:
    """A `Compiler`. `spell` turns a grammar into a kind and text the process knows; `setup` is
    asked for when it starts. Begun again when it has ended."""

    def __init__(
        self,
        setup: Callable[[], Mapping[str, Any]],
        spell: Callable[[Grammar], tuple[str, str]],
        *,
        limit_s: float,
    ) -> None:
        self._setup = setup
        self._spell = spell
        self._limit_s = limit_s
        self._numbers = 0
        self._orders: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._first: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See `Compiler`: begun in the background."""
        self._first = asyncio.create_task(self._try_to_begin(), name="attune-grammars")

    async def _try_to_begin(self) -> None:
        with suppress(Unavailable):  # logged, and tried again when it is needed
            await self._begin()

    async def stop(self) -> None:
        """See `Compiler`."""
        for task in (self._first, self._reader):
            if task is not None:
                task.cancel()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def compile(self, grammar: Grammar) -> Verdict:
        """See `Compiler`."""
        kind, text = self._spell(grammar)
        await self._begin()
        self._numbers += 1
        number = self._numbers
        told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._orders[number] = told
        try:
            self._write({"id": number, "kind": kind, "text": text})
            async with asyncio.timeout(self._limit_s + _GRACE_S):
                found = await told
        except TimeoutError as error:
            self._kill()
            raise _away() from error
        finally:
            del self._orders[number]
            if not told.done() or told.cancelled():
                with suppress(Unavailable):
                    self._write({"cancel": number})
        return Verdict(
            found.get("fault"),
            bool(found.get("too_complex")),
            int(found.get("size_bytes", 0)),
            {int(at): why for at, why in found.get("faults", {}).items()},
        )

    async def _begin(self) -> None:
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return
            setup = {**await asyncio.to_thread(self._setup), "limit_s": self._limit_s}
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server.vllm.grammars.host",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=_ROOT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
                preexec_fn=dying_with_parent(signal.SIGKILL),
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(setup).encode() + b"\n")
            try:
                async with asyncio.timeout(_START_S):
                    await process.stdin.drain()
                    ready = await process.stdout.readline()
            except (TimeoutError, ConnectionError):
                ready = b""
            if not ready:
                logger.error("The process that tries grammars does not start.")
                with suppress(ProcessLookupError):
                    process.kill()
                raise _away()
            self._process = process
            self._reader = asyncio.create_task(self._listen(process.stdout))

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            told = json.loads(line)
            order = self._orders.get(told["id"])
            if order is not None and not order.done():
                order.set_result(told)
        logger.warning("The process that tries grammars has ended; it is begun again when needed.")
        for order in self._orders.values():
            if not order.done():
                order.set_exception(_away())

    def _write(self, order: Mapping[str, Any]) -> None:
        if self._process is None or self._process.stdin is None or self._process.stdin.is_closing():
            raise _away()
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()


def _away() -> Unavailable:
    return Unavailable(
        "Schemas and grammars cannot be compiled now; try again in a moment, or ask without them."
    )
