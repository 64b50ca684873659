"""Grammars on their way to the engine: compiled first where it does no harm, in fair turns.

The engine compiles grammars one after the other, cannot stop, and a crash in it ends the server.
So each new one is tried before (`Compiler`), within a time, and the engine gets only what passed.
A tenant waits for its own grammars: of those waiting, whose tenant has used least time is next.

Must not know how a grammar is compiled, nor HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal, Protocol

from core.errors import Unavailable
from core.ids import TenantId

Kind = Literal["json", "regex", "choice", "grammar", "structural_tag", "tools"]

UNCONSTRAINED: ContextVar[tuple[Any, ...]] = ContextVar("unconstrained_schemas", default=())
"""Schemas of this request's tools that cannot be compiled: calls of them are held to ANY."""

ANY: dict[str, Any] = {"type": "object"}
"""The schema of whatever arguments a tool may have."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer is to fit: a schema, an expression, or, for some kinds, JSON that holds it.

    `choice`: a list of strings; `tools`: a list of [name, schema].
    """

    kind: Kind
    text: str

    @property
    def digest(self) -> bytes:
        """Alike for equal grammars."""
        return hashlib.sha256(f"{self.kind} {self.text}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of compiling a grammar. `fault`: why it cannot be used; None: it can."""

    fault: str | None = None
    too_complex: bool = False  # it took more than it may; at another time it may not
    size_bytes: int = 0
    faults: Mapping[int, str] = field(default_factory=dict)  # of `tools`: why one is held to ANY


class Compiler(Protocol):
    """Compiles for trial. One that is cancelled stops."""

    async def start(self) -> None:
        """Get ready; may return before it is."""

    async def compile(self, grammar: Grammar) -> Verdict:
        """Within a time of its own. Raises Unavailable if it cannot tell."""

    async def stop(self) -> None:
        """End what is under way."""


class Grammars:
    """Verdicts on grammars, each found once while it is remembered.

    What is remembered is no more than the engine remembers (`kept_bytes` of compiled grammars):
    what it has forgotten it compiles again, and that again takes a turn here.
    """

    def __init__(
        self,
        compiler: Compiler | None,
        *,
        places: int = 1,
        waiting: int = 16,
        kept: int = 4096,
        kept_bytes: int = 128_000_000,
    ) -> None:
        self._compiler = compiler
        self._turns = Turns(places, waiting)
        self._kept, self._kept_bytes = kept, kept_bytes
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self._size_bytes = 0

    @property
    def judges(self) -> bool:
        """Whether there is a compiler; without one everything passes."""
        return self._compiler is not None

    async def start(self) -> None:
        """Have the compiler get ready."""
        if self._compiler is not None:
            await self._compiler.start()

    async def stop(self) -> None:
        """End the compiler."""
        if self._compiler is not None:
            await self._compiler.stop()

    async def verdict(self, tenant_id: TenantId, grammar: Grammar) -> Verdict:
        """Whether the engine may get this grammar. Raises Unavailable if that cannot be told."""
        if self._compiler is None:
            return Verdict()
        digest = grammar.digest
        if (known := self._known(digest)) is not None:
            return known
        async with self._turns.turn(tenant_id):
            if (known := self._known(digest)) is not None:  # while this one waited
                return known
            found = await self._compiler.compile(grammar)
        self._keep(digest, found)
        return found

    def _known(self, digest: bytes) -> Verdict | None:
        if digest in self._verdicts:
            self._verdicts.move_to_end(digest)
        return self._verdicts.get(digest)

    def _keep(self, digest: bytes, verdict: Verdict) -> None:
        if verdict.too_complex or digest in self._verdicts:
            return
        self._verdicts[digest] = verdict
        self._size_bytes += verdict.size_bytes
        while len(self._verdicts) > self._kept or self._size_bytes > self._kept_bytes:
            self._size_bytes -= self._verdicts.popitem(last=False)[1].size_bytes


class Turns:
    """Some places, given to whose tenant has had them for the least time.

    A tenant that comes anew counts as having had what the least among those here has, so that
    nobody saves up time. `waiting`: how many of one tenant may wait.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self._free = places
        self._most = waiting
        self._waiting: list[tuple[TenantId, asyncio.Future[None]]] = []
        self._running: list[TenantId] = []
        self._spent_s: dict[TenantId, float] = {}

    @asynccontextmanager
    async def turn(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Have a place for the length of the block. Raises Unavailable if too many wait."""
        if sum(waits == tenant_id for waits, _ in self._waiting) >= self._most:
            raise Unavailable(
                f"{self._most} grammars of yours are waiting to be compiled; ask again when they "
                "are, or use the same schema for several requests.",
                code="too_many_grammars",
            )
        least_s = min(self._spent_s.values(), default=0.0)
        self._spent_s[tenant_id] = max(self._spent_s.get(tenant_id, 0.0), least_s)
        await self._place(tenant_id)
        began = monotonic()
        try:
            yield
        finally:
            self._spent_s[tenant_id] += monotonic() - began
            self._running.remove(tenant_id)
            self._free += 1
            self._forget(tenant_id)
            self._give()

    async def _place(self, tenant_id: TenantId) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (tenant_id, place)
        self._waiting.append(entry)
        self._give()
        try:
            await place
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not place.cancelled():  # it was given just now
                self._running.remove(tenant_id)
                self._free += 1
            self._forget(tenant_id)
            self._give()
            raise

    def _give(self) -> None:
        while self._free and self._waiting:
            entry = min(self._waiting, key=self._claim)
            self._waiting.remove(entry)
            tenant_id, place = entry
            self._free -= 1
            self._running.append(tenant_id)
            place.set_result(None)

    def _claim(self, entry: tuple[TenantId, asyncio.Future[None]]) -> tuple[int, float]:
        tenant_id = entry[0]
        return self._running.count(tenant_id), self._spent_s[tenant_id]

    def _forget(self, tenant_id: TenantId) -> None:
        here = {*self._running, *(waits for waits, _ in self._waiting)}
        if tenant_id not in here and self._spent_s[tenant_id] <= min(self._spent_s.values()):
            del self._spent_s[tenant_id]
        if not here:
            self._spent_s.clear()
