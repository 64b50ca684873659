"""What Attune asks of an inference engine: put an adapter in, take it out. The real one is
`server.vllm.adapters`; everything else in this package knows only this port."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class EngineAdapters(Protocol):
    """Loading and freeing of LoRA adapters while the engine serves.

    Calls take effect in the order in which they are begun: a load may follow the unload that
    makes room for it without waiting for it to end.
    """

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        """Make the adapter in `path` usable under `name`; all three are never reused.

        Raises Unavailable with the engine's reason; the engine goes on serving.
        """

    async def unload(self, name: str, engine_id: int) -> None:
        """Free it; no request may be using it."""
