"""What Attune asks of an inference engine: put an adapter in, try it, take it out. The real one is
`server.vllm.adapters`; everything else in this package knows only this port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.chat_template import PLAIN_TEMPLATE, ChatTemplate
from server.engine.grammars import Compiler


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What else the server must know of its engine.

    `compiler`: tries grammars before the engine gets them. `fetches_media`: the operator named
    hosts from which it may. `fingerprint`: what it calls itself in answers. `template`: what
    becomes of a conversation before it is read.
    """

    compiler: Compiler | None = None
    fetches_media: bool = False
    fingerprint: str | None = None
    template: ChatTemplate = PLAIN_TEMPLATE


PLAIN = EngineTraits()


class EngineAdapters(Protocol):
    """Loading, trying and freeing of LoRA adapters while the engine serves.

    Calls take effect in the order in which they are begun: a load may follow the unload that
    makes room for it without waiting for it to end.
    """

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        """Make the adapter in `path` usable under `name`; all three are never reused.

        Raises Unavailable with the engine's reason; the engine goes on serving.
        """

    async def unload(self, name: str, engine_id: int) -> None:
        """Free it; no request may be using it."""

    async def answer(self, name: str, prompt_tokens: Sequence[int]) -> None:
        """Let it answer prompts of these lengths, a token each, and drop the answers.

        Raises Unavailable with the engine's reason.
        """

    def alive(self) -> bool:
        """Whether the engine runs: a dead one does not come back."""

    def is_large(self, engine_id: int) -> bool:
        """Whether a loaded adapter's weights could lead out of what the engine keeps finite."""

    async def has_left_bounds(self, engine_id: int) -> bool:
        """Whether they have, in any answer until now: what it answered is not what it says."""
