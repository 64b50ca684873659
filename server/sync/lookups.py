"""Finding keys and models by what this server knows of the registry, unknown ones after one more
look: what was made a moment ago works at once, and a flood of made-up names costs a few looks.
"""

from __future__ import annotations

from adapters.routing import route
from adapters.types import Route
from core.errors import NotFound
from core.identity.types import ApiKey
from core.ids import TenantId
from server.sync.registry_sync import RegistrySync
from server.sync.shared_look import SharedLook

_SPACING_S = 0.05


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
