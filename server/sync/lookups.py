"""Names and keys this server does not know: how often they are worth asking the registry for."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable


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
