"""Stage: the weights that answer are in the engine, and stay there until the answer has ended."""

from __future__ import annotations

from server.door.call import COUNTING, Call, Onward


async def hold_lease(call: Call, onward: Onward) -> None:
    """Raises Unavailable if the version cannot be loaded, or no place comes free in time."""
    version = call.route.version
    if version is None:
        await onward(call)
        return
    generates = call.endpoint != COUNTING
    async with call.runtime.residency.lease(call.engine_model, version, generates=generates):
        await onward(call)
