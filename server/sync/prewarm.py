"""Which live versions a starting server loads before it is asked: those asked for lately."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from adapters.directory import Directory
from adapters.routing import engine_name
from adapters.types import Adapter
from core.ids import AdapterId
from feedback.interactions import InteractionStore
from server.engine.residency import Residency


def worth_loading(
    directory: Directory, recent: Sequence[AdapterId], *, limit: int
) -> list[Adapter]:
    """At most `limit` adapters with a live version, in the order in which they are missed least.

    Last come those of `recent`, its first at the very end: least recently used leaves first.
    Before them, where there is room, the newest others.
    """
    live = {a.id: a for a in directory.by_name.values() if a.live_version is not None}
    wanted = [live[adapter_id] for adapter_id in recent if adapter_id in live][:limit]
    known = {adapter.id for adapter in wanted}
    newest = [adapter for adapter in reversed(live.values()) if adapter.id not in known]
    return [*newest[: limit - len(wanted)][::-1], *wanted[::-1]]


async def prewarm(
    residency: Residency, directory: Directory, interactions: InteractionStore, *, limit: int
) -> None:
    """Load them; one that cannot be loaded is logged and left to its first request."""
    recent = await asyncio.to_thread(interactions.recent_adapters, limit=limit)
    for adapter in worth_loading(directory, recent, limit=limit):
        assert adapter.live_version is not None
        version = directory.versions[adapter.id][adapter.live_version]
        await residency.preload_quietly(engine_name(adapter.tenant_id, adapter, version), version)
