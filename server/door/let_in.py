"""Stage: requests are counted in and out. While the server ends nobody is let in, and whoever is
still in when its time is up is told so."""

from __future__ import annotations

import asyncio

from server.door.call import Call, Onward


async def let_in(call: Call, onward: Onward) -> None:
    """Raises ShuttingDown instead of going on, and instead of going on any longer."""
    under_way = call.runtime.under_way
    call.stay = stay = under_way.enter()
    try:
        await onward(call)
    except asyncio.CancelledError:
        if (error := stay.why_cancelled()) is None:
            raise
        raise error from None
    finally:
        under_way.leave(stay)
