"""Finding keys and models by what this server knows of the registry, unknown ones after one more
look: what was made a moment ago works at once, and a flood of made-up names costs a few looks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from adapters.routing import route
from adapters.types import Route
from core.errors import NotFound
from core.identity.types import ApiKey
from core.ids import TenantId
from server.sync.registry_sync import RegistrySync

_SPACING_S = 0.05


class SharedLook:
    """One more look at the registry, for everybody who asks before it begins.

    Begins `spacing_s` after the last one at the earliest and never beside it, so that any number
    of askers cost as many looks as one who asks for ever; each waits that long at most.
    """

    def __init__(self, look: Callable[[], Awaitable[None]], *, spacing_s: float) -> None:
        self._look = look
        self._spacing_s = spacing_s
        self._turn = asyncio.Lock()
        self._began_at = float("-inf")
        self._next: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Return after a look that began after this call. Raises what the look raises."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._begin())
        await asyncio.shield(self._next)

    async def _begin(self) -> None:
        async with self._turn:
            await asyncio.sleep(self._began_at + self._spacing_s - time.monotonic())
            self._next, self._began_at = None, time.monotonic()
            await self._look()


class Lookups:
    """Finds in the directory of `sync`; `served_name` is the base model's name on this server."""

    def __init__(self, sync: RegistrySync, *, served_name: str) -> None:
        self._sync = sync
        self._served_name = served_name
        self._look_for_key = SharedLook(sync.look, spacing_s=_SPACING_S)
        self._look_for_model = SharedLook(sync.refresh, spacing_s=_SPACING_S)

    async def key(self, public_id: str) -> ApiKey | None:
        """The key of that public id. Raises Unavailable if the registry cannot be asked."""
        if public_id not in self._sync.directory.keys:
            await self._look_for_key()
        return self._sync.directory.keys.get(public_id)

    async def route(
        self,
        tenant_id: TenantId,
        model: str,
        *,
        end_user: str | None = None,
        domain: str | None = None,
        draw: float | None = None,
    ) -> Route:
        """See `adapters.routing.route`. Raises NotFound, Unavailable if that cannot be told."""

        def find() -> Route:
            return route(
                self._sync.directory,
                tenant_id,
                model,
                served_name=self._served_name,
                end_user=end_user,
                domain=domain,
                draw=draw,
            )

        try:
            return find()
        except NotFound:
            await self._look_for_model()
            return find()
