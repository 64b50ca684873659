"""Finding keys and models by what this server knows of the registry, unknown ones after one more
look: what was made a moment ago works at once, and a flood of made-up names costs next to nothing.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from adapters.routing import route
from adapters.types import Route
from core.errors import NotFound
from core.identity.types import ApiKey
from core.ids import TenantId
from server.sync.registry_sync import RegistrySync


class UnknownNames:
    """Keeps a flood of unknown names from becoming a flood of queries.

    A name made a moment ago must work at once, so an unknown one is worth a look at the registry;
    but the same one only when the registry has changed or `again_after_s` later, and all together
    `per_s` a second after a burst of as many. Whoever is refused for that waits no longer than
    the server takes to follow the registry anyway. Remembers the last `capacity` names.
    """

    def __init__(
        self,
        *,
        per_s: float = 20.0,
        again_after_s: float = 1.0,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s = per_s
        self._again_after_s = again_after_s
        self._capacity = capacity
        self._clock = clock
        self._looked: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        self._under_way: Counter[Hashable] = Counter()
        self._allowed = per_s
        self._counted_at = clock()

    def worth_a_look(self, name: Hashable, change: int) -> bool:
        """Whether to look now, `looked` to be called afterwards; `change` is the registry's as far
        as this server knows it. Who asks while somebody looks for the same name joins them."""
        if name in self._under_way:
            self._under_way[name] += 1
            return True
        now = self._clock()
        looked = self._looked.get(name)
        if looked is not None and looked[0] == change and now - looked[1] < self._again_after_s:
            return False
        earned = (now - self._counted_at) * self._per_s
        self._allowed = min(max(1.0, self._per_s), self._allowed + earned)
        self._counted_at = now
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        self._under_way[name] = 1
        return True

    def looked(self, name: Hashable, change: int) -> None:
        """A look for `name` has ended, however; `change` is the registry's as it is known now."""
        self._under_way[name] -= 1
        if not self._under_way[name]:
            del self._under_way[name]
        self._looked[name] = (change, self._clock())
        self._looked.move_to_end(name)
        if len(self._looked) > self._capacity:
            self._looked.popitem(last=False)


class Lookups:
    """Finds in the directory of `sync`; `served_name` is the base model's name on this server."""

    def __init__(self, sync: RegistrySync, *, served_name: str) -> None:
        self._sync = sync
        self._served_name = served_name
        self._unknown = UnknownNames()

    async def key(self, public_id: str) -> ApiKey | None:
        """The key of that public id. Raises Unavailable if the registry cannot be asked."""
        if public_id not in self._sync.directory.keys:
            await self._looked_again(public_id, self._sync.look)
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
            if not await self._looked_again((tenant_id, model), self._sync.refresh):
                raise
        return find()

    async def _looked_again(self, name: Hashable, look: Callable[[], Awaitable[None]]) -> bool:
        if not self._unknown.worth_a_look(name, self._sync.directory.change):
            return False
        try:
            await look()
        finally:
            self._unknown.looked(name, self._sync.directory.change)
        return True
