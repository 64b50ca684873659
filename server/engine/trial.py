"""Whether an adapter answers within its bounds, tried before anybody is answered by it.

The engine keeps every row finite, whatever the weights (see `server.vllm.bounds`), and says whose
it had to bound. This module owns what is tried, and the words for an adapter that fails.
"""

from __future__ import annotations

from core.errors import Unavailable
from server.engine.port import EngineAdapters

PROMPT_TOKENS = (8, 128)
"""A few tokens and many: all layers run for either, by different arithmetic."""


class Absurd(Unavailable):
    """The adapter's weights lead out of the numbers the engine can count with."""

    code = "absurd_weights"


async def try_out(engine: EngineAdapters, name: str, engine_id: int) -> None:
    """Let a loaded adapter answer, for nobody. Raises Absurd if it leaves its bounds."""
    await engine.answer(name, PROMPT_TOKENS)
    await require_bounds(engine, name, engine_id)


async def require_bounds(engine: EngineAdapters, name: str, engine_id: int) -> None:
    """Raises Absurd if an answer of the adapter has left its bounds until now."""
    if await engine.has_left_bounds(engine_id):
        raise Absurd(
            f"The weights of '{name.rpartition('/')[2]}' are absurd: what its layers put out is "
            "no number, or too large to count with. Train it again, with a lower learning rate."
        )
