"""Taking a version out of service for good, which moves the live pointer where it must."""

from __future__ import annotations

from collections.abc import Sequence, Set

import sqlalchemy as sa

from adapters import tables
from adapters.activations import Activation, latest, move, of_another_base, set_state
from adapters.types import Adapter, VersionState
from core.database import Database, found, found_all
from core.ids import AdapterId

_MOVES = 100


def quarantine(database: Database, adapter_id: AdapterId, number: int, reason: str) -> None:
    """Nothing is routed to this version from now on, whatever its state was.

    Where it was live, the version before it is again, or the base. A row of history keeps the
    reason. Nothing happens to a version that is quarantined already.
    """
    with database.write() as connection:
        one = sa.select(tables.adapters).where(tables.adapters.c.id == adapter_id)
        adapter = found(connection, one.with_for_update(), Adapter)
        states = _states(connection, adapter_id)
        if adapter is None or states.get(number) in (None, "quarantined"):
            return
        live = adapter.live_version
        if live == number:
            barred = {n for n, state in states.items() if state in ("rejected", "quarantined")}
            barred |= of_another_base(connection, adapter_id)
            live = _live_before(
                number,
                found_all(connection, latest(adapter_id, _MOVES), Activation),
                barred | {number},
            )
        why = f"quarantined: version {number}. {reason}"
        move(connection, adapter, live, "server", why, allow_rejected=True)
        set_state(connection, adapter_id, number, "quarantined")


def _live_before(number: int, moves: Sequence[Activation], barred: Set[int]) -> int | None:
    """What `number` took over from, by `moves`, newest first; None: the base model.

    Where that is `barred`, what that one took over from.
    """
    for one in moves:
        if one.version == number and one.previous != number:
            if one.previous is None or one.previous not in barred:
                return one.previous
            number = one.previous
    return None


def _states(connection: sa.Connection, adapter_id: AdapterId) -> dict[int, VersionState]:
    query = sa.select(tables.versions.c.number, tables.versions.c.state).where(
        tables.versions.c.adapter_id == adapter_id
    )
    return {row.number: row.state for row in connection.execute(query)}
