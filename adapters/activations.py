"""Moves of an adapter's live pointer: each compare-and-set, each with its row of history.

Owns what may become live and what changes with it. The transaction is the caller's.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from adapters import tables
from adapters.types import Adapter, VersionState
from core.clock import now_s
from core.database import announce, row_of
from core.errors import Conflict, NotFound
from core.ids import AdapterId
from core.queries import only


@dataclass(frozen=True, slots=True)
class Activation:
    """One move of the live pointer; `version` None means back to the base model."""

    version: int | None
    previous: int | None
    actor: str
    reason: str
    at_s: float


def move(
    connection: sa.Connection,
    adapter: Adapter,
    number: int | None,
    actor: str,
    reason: str,
    *,
    allow_rejected: bool,
) -> None:
    """Point `adapter`, as the caller saw it, at `number`; see `Registry.activate`."""
    if number is not None:
        _require_servable(connection, adapter, number, allow_rejected)
    moved = connection.execute(
        tables.adapters.update()
        .where(
            tables.adapters.c.id == adapter.id,
            tables.adapters.c.generation == adapter.generation,
        )
        .values(live_version=number, generation=adapter.generation + 1)
    )
    if moved.rowcount != 1:
        raise Conflict(
            f"The live version of '{adapter.name}' has changed meanwhile; look at "
            "it again, then decide.",
            code="generation_conflict",
        )
    set_state(connection, adapter.id, adapter.live_version, "retired")
    set_state(connection, adapter.id, number, "live")
    moved_to = {
        "adapter_id": adapter.id,
        "version": number,
        "previous": adapter.live_version,
        "actor": actor,
        "reason": reason,
        "at_s": now_s(),
    }
    connection.execute(tables.activations.insert().values(row_of(tables.activations, moved_to)))
    announce(connection, "activations", adapter.id)


def latest(adapter_id: AdapterId, limit: int) -> sa.Select[Any]:
    """The last `limit` moves of an adapter's pointer, newest first."""
    return (
        sa.select(tables.activations)
        .where(only(tables.activations.c.adapter_id, adapter_id))
        .order_by(tables.activations.c.adapter_id.desc(), tables.activations.c.id.desc())
        .limit(limit)
    )


def is_number(number: int) -> bool:
    """Whether a version can have this number: what the column holds."""
    return 1 <= number < 2**31


def of_another_base(connection: sa.Connection, adapter_id: AdapterId) -> Set[int]:
    """The versions of an adapter that were made for another base model than the present one."""
    present = sa.select(tables.base_model.c.digest).scalar_subquery()
    query = sa.select(tables.versions.c.number).where(
        tables.versions.c.adapter_id == adapter_id,
        tables.versions.c.base_digest != present,  # never true where either is not known
    )
    return set(connection.scalars(query))


def quarantined(adapter: Adapter, number: int) -> Conflict:
    """The refusal to make a quarantined version live."""
    return Conflict(
        f"Version {number} of '{adapter.name}' is quarantined, as its history says; pass "
        "force=true to make it live all the same. A server that finds it absurd again takes it "
        "out of service again.",
        param="version",
    )


def _require_servable(
    connection: sa.Connection, adapter: Adapter, number: int, allow_rejected: bool
) -> None:
    if not is_number(number):
        raise NotFound(f"'{adapter.name}' has no such version.", param="version")
    state = connection.scalar(
        sa.select(tables.versions.c.state).where(
            tables.versions.c.adapter_id == adapter.id, tables.versions.c.number == number
        )
    )
    if state is None:
        raise NotFound(f"'{adapter.name}' has no version {number}.", param="version")
    if number in of_another_base(connection, adapter.id):
        raise Conflict(
            f"Version {number} of '{adapter.name}' was made for another base model than the one "
            "that answers here; upload or train one for this base.",
            param="version",
            code="other_base",
        )
    if state == "quarantined" and not allow_rejected:
        raise quarantined(adapter, number)
    if state == "rejected" and not allow_rejected:
        raise Conflict(
            f"The gate rejected version {number} of '{adapter.name}'; pass force=true to "
            "make it live all the same.",
            param="version",
        )


def set_state(
    connection: sa.Connection, adapter_id: AdapterId, number: int | None, state: VersionState
) -> None:
    """Move a version to `state`; None, the base model, has none."""
    if number is not None:
        connection.execute(
            tables.versions.update()
            .where(tables.versions.c.adapter_id == adapter_id, tables.versions.c.number == number)
            .values(state=state)
        )
