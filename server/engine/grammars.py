"""Grammars on their way to the engine: compiled first where it does no harm, in fair turns.

The engine compiles grammars one after the other, cannot stop, and a crash in it ends the server.
So each new one is tried before (`Compiler`), within a time, and the engine gets only what passed.
A tenant waits for its own grammars: of those waiting, whose tenant has used least time is next.

Must not know how a grammar is compiled, nor HTTP.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from core.ids import TenantId
from server.engine.turns import Turns

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
