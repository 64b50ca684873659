"""What this server answers with, beside what the registry says, and what it begins with: pure.

The registry says at once that a version is live; this server says so once its engine has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.directory import Directory, News
from adapters.types import Adapter
from core.ids import AdapterId


class LocalDirectory:
    """`seen`: the registry as it is. `directory`: the same, less live versions not here yet."""

    def __init__(self, directory: Directory) -> None:
        """Begin with everything in `directory` taken for served."""
        self.seen = self.directory = directory
        # Each as the registry has it and as it is routed to here (None: not by its name).
        self._behind: dict[AdapterId, tuple[Adapter, Adapter | None]] = {}

    def take(self, news: News) -> None:
        """The registry is now so. Live versions that moved stay as they were until `served`.

        An adapter born with a live version is left out meanwhile: asked for by name it is then
        loaded at once, instead of being answered by the base.
        """
        for adapter in news.adapters:
            here = self._here(adapter)
            if adapter.live_version == (here.live_version if here else None):
                self._behind.pop(adapter.id, None)
            else:
                known = here and replace(adapter, live_version=here.live_version)
                self._behind[adapter.id] = (adapter, known)
        self.seen = news.directory
        self._renew()

    def behind(self) -> list[Adapter]:
        """The adapters whose live version is not this server's yet, as the registry has them."""
        return [adapter for adapter, _ in self._behind.values()]

    def served(self, adapter: Adapter) -> bool:
        """This server has the live version of `adapter`: route to it from now on.

        False, and nothing changes, if the registry has moved on meanwhile.
        """
        wanted, _ = self._behind.get(adapter.id, (None, None))
        if wanted is None or wanted.live_version != adapter.live_version:
            return False
        del self._behind[adapter.id]
        self._renew()
        return True

    def unavailable(self, adapter: Adapter) -> None:
        """The live version cannot be had now: what was served goes on; for a new one the base."""
        wanted, here = self._behind.get(adapter.id, (None, None))
        if wanted is not None and here is None:
            self._behind[adapter.id] = (wanted, replace(wanted, live_version=None))
            self._renew()

    def live_here(self, adapter: Adapter) -> int | None:
        """The version of `adapter` that answers here now; None: the base."""
        here = self._here(adapter)
        return here.live_version if here else None

    def _here(self, adapter: Adapter) -> Adapter | None:
        return self.directory.by_name.get((adapter.tenant_id, adapter.name))

    def _renew(self) -> None:
        if not self._behind:
            self.directory = self.seen
            return
        by_name, by_subject = dict(self.seen.by_name), dict(self.seen.by_subject)
        for adapter, here in self._behind.values():
            name = (adapter.tenant_id, adapter.name)
            first = self.seen.by_subject[adapter.serves].id == adapter.id
            if here is None:
                del by_name[name]
                if first:
                    del by_subject[adapter.serves]
            else:
                by_name[name] = here
                if first:
                    by_subject[adapter.serves] = here
        self.directory = replace(self.seen, by_name=by_name, by_subject=by_subject)


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
