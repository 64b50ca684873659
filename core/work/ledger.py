"""Durable work in SQL: of the same thing at most one piece under way, every call safe to repeat.

Knows nothing of how a piece is carried out; the durable workflow calls these methods and may,
after a crash, call one twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, Literal

import msgspec
import sqlalchemy as sa

from core.clock import now_s
from core.database import Database, insert_ignoring_duplicates
from core.errors import Conflict
from core.ids import AdapterId, TenantId, new_id
from core.page import Page, read_page
from core.places import without_places
from core.queries import aside, only
from core.text import fit
from core.work.tables import QUERIED, work, work_events
from core.work.types import Facts, Spec, Work, WorkEvent

_ACTIVE_KEY = "active"
_MAX_TEXT = 20_000
_RAREST_FIRST = ("request_key", "adapter_id", "model", "state", "precision", "layout")
"""What lists filter by, each with an index: a query begins with the first that is asked for."""


class Ledger(Generic[Facts]):
    """All pieces of one kind. Safe to use from several threads and processes."""

    def __init__(self, database: Database, spec: Spec[Facts]) -> None:
        self._database = database
        self._spec = spec

    def open(
        self,
        tenant_id: TenantId,
        request_key: str,
        facts: Facts,
        *,
        adapter_id: AdapterId | None = None,
        message: str = "",
    ) -> tuple[Work[Facts], bool]:
        """Queue a piece and say that it is new, or yield the one of the same key under way."""
        at_s = now_s()
        row = {
            "id": new_id(self._spec.prefix),
            "kind": self._spec.name,
            "tenant_id": tenant_id,
            "adapter_id": adapter_id,
            "state": self._spec.active[0],
            "progress": 0.0,
            "message": message,
            "created_at_s": at_s,
            "updated_at_s": at_s,
            "request_key": request_key,
            "active_key": _ACTIVE_KEY,
            **_columns_of(facts),
        }
        under_way = (work.c.request_key == request_key, work.c.active_key == _ACTIVE_KEY)
        found = None
        while found is None:  # again if the one in our way ends this very moment
            with self._database.write() as connection:
                insert_ignoring_duplicates(connection, work, [row])
                found = self._find(connection, *under_way)
        return found, found.id == row["id"]

    def advance(
        self,
        work_id: str,
        state: str,
        *,
        progress: float = 0.0,
        message: str | None = None,
        stoppable: bool = True,
        **facts: Any,
    ) -> Work[Facts]:
        """Say how far a piece is and record the `facts` learnt so far.

        Neither state nor progress ever moves back. Raises Conflict with code `cancelled` once
        somebody asked for it to stop (unless it is not `stoppable` here), Conflict if it has
        ended otherwise, NotFound for an unknown id.
        """
        with self._database.write() as connection:
            found = self._one(connection, work_id, lock=True)
            to_stop = found.is_active and stoppable and found.cancel_requested_at_s is not None
            if to_stop or found.state == "cancelled":
                raise Conflict(f"The {self._spec.noun} was cancelled.", code="cancelled")
            if not found.is_active:
                raise self._spec.conflict(found, "has ended")
            return self._change(
                connection,
                found,
                facts,
                state=max(found.state, state, key=self._spec.active.index),
                progress=max(found.progress, min(1.0, progress)),
                message=message,
            )

    def finish(
        self,
        work_id: str,
        state: str,
        *,
        progress: float | None = None,
        message: str | None = None,
        error: str | None = None,
        **facts: Any,
    ) -> Work[Facts]:
        """End a piece and make room for the next; ending it twice alike changes nothing.

        Raises Conflict if it has ended otherwise, NotFound for an unknown id.
        """
        if state not in self._spec.ended:
            raise ValueError(f"{state!r} does not end work of kind {self._spec.name!r}.")
        with self._database.write() as connection:
            found = self._one(connection, work_id, lock=True)
            if found.state == state:
                return found
            if not found.is_active:
                raise self._spec.conflict(found, "has ended already")
            ended = _ended(work_id, state)
            return self._change(
                connection, found, facts, progress=progress, message=message, error=error, **ended
            )

    def cancel(self, tenant_id: TenantId, work_id: str) -> Work[Facts]:
        """Ask for a piece to stop: a queued one ends at once, another at its worker's next word.

        Repeating it changes nothing. Raises Conflict if it has ended otherwise, NotFound if the
        tenant has no such piece.
        """
        with self._database.write() as connection:
            found = self._one(connection, work_id, work.c.tenant_id == tenant_id, lock=True)
            if found.state == "cancelled":
                return found
            if not found.is_active:
                raise self._spec.conflict(found, "cannot be cancelled")
            if found.cancel_requested_at_s is not None:
                return found
            changed: dict[str, Any] = {"cancel_requested_at_s": now_s()}
            if found.state == self._spec.active[0]:
                changed |= {**_ended(work_id, "cancelled"), "message": "Cancelled."}
            return self._change(connection, found, {}, **changed)

    def get(self, tenant_id: TenantId, work_id: str) -> Work[Facts]:
        """One piece; NotFound if the tenant has none of that id."""
        with self._database.read() as connection:
            return self._one(connection, work_id, work.c.tenant_id == tenant_id)

    def find(self, work_id: str) -> Work[Facts]:
        """One piece of whatever tenant, for those who carry it out; NotFound for an unknown id."""
        with self._database.read() as connection:
            return self._one(connection, work_id)

    def list(
        self,
        tenant_id: TenantId,
        where: Mapping[str, str | None] = {},
        *,
        after: str | None = None,
        limit: int = 20,
    ) -> Page[Work[Facts]]:
        """The tenant's pieces, newest first, those following `after`; limit 1 to 200.

        `where` names columns and values, None meaning any. Raises NotFound for an unknown cursor.
        """
        given = [name for name, value in where.items() if value is not None]
        asked = sorted(given, key=_RAREST_FIRST.index)
        rarest = asked[0] if asked else None
        owner = {"kind": self._spec.name, "tenant_id": tenant_id}
        mine = dict(owner)
        if rarest in ("request_key", "adapter_id"):  # each of one tenant alone
            del mine["tenant_id"]
        return read_page(
            self._database,
            work,
            owner,
            mine | {name: str(where[name]) for name in asked[:1]},
            [aside(work.c[name]) == where[name] for name in asked[1:]],
            self._read,
            newest=(work.c.created_at_s, work.c.id),
            after=after,
            limit=limit,
            noun=self._spec.noun,
        )

    def active(self) -> Sequence[Work[Facts]]:
        """Every piece under way, of all tenants, oldest first; for workers after a restart."""
        query = self._select(work.c.active_key == _ACTIVE_KEY)
        with self._database.read() as connection:
            found = [self._read(row) for row in connection.execute(query).mappings()]
        return sorted(found, key=lambda piece: (piece.created_at_s, piece.id))

    def count_by_state(self) -> dict[str, int]:
        """How many pieces are in each state, of all tenants."""
        query = sa.select(work.c.state, sa.func.count()).where(work.c.kind == self._spec.name)
        with self._database.read() as connection:
            counted = connection.execute(query.group_by(work.c.state))
            return {str(row[0]): int(row[1]) for row in counted}

    def event(
        self,
        work_id: str,
        type: Literal["message", "metrics"],
        message: str,
        data: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> None:
        """Add a line to a piece's log; with a `key` (64 characters) it is added only once.

        Raises NotFound for an unknown id.
        """
        row = {
            "work_id": work_id,
            "key": key,
            "at_s": now_s(),
            "type": type,
            "message": fit(without_places(message), _MAX_TEXT),
            "data": data or {},
        }
        try:
            with self._database.write() as connection:
                insert_ignoring_duplicates(connection, work_events, [row])
        except sa.exc.IntegrityError as error:
            raise self._spec.missing(work_id) from error

    def events(self, work_id: str, after: int = 0, limit: int = 1_000) -> Sequence[WorkEvent]:
        """A piece's log in order, the lines whose id is greater than `after`."""
        query = (
            sa.select(work_events)
            .where(only(work_events.c.work_id, work_id), work_events.c.id > after)
            .order_by(work_events.c.work_id, work_events.c.id)
            .limit(limit)
        )
        return self._database.find_all(query, WorkEvent)

    def _select(self, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
        return sa.select(work).where(work.c.kind == self._spec.name, *where)

    def _read(self, row: sa.RowMapping) -> Work[Facts]:
        values = {name: row[name] for name in Work.__slots__}
        values["facts"] = {**row["facts"], **{name: row[name] for name in QUERIED}}
        work_type: type[Work[Facts]] = Work[self._spec.facts]  # type: ignore[name-defined]
        return msgspec.convert(values, work_type)

    def _find(
        self, connection: sa.Connection, *where: sa.ColumnElement[bool], lock: bool = False
    ) -> Work[Facts] | None:
        query = self._select(*where)
        query = query.with_for_update() if lock else query
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else self._read(row)

    def _one(
        self,
        connection: sa.Connection,
        work_id: str,
        *where: sa.ColumnElement[bool],
        lock: bool = False,
    ) -> Work[Facts]:
        found = self._find(connection, work.c.id == work_id, *where, lock=lock)
        if found is None:
            raise self._spec.missing(work_id)
        return found

    def _change(
        self,
        connection: sa.Connection,
        found: Work[Facts],
        facts: Mapping[str, Any],
        **columns: Any,
    ) -> Work[Facts]:
        """Set the facts named and the columns that are not None."""
        changed = {name: value for name, value in columns.items() if value is not None}
        for name in changed.keys() & {"message", "error"}:
            changed[name] = fit(without_places(changed[name]), _MAX_TEXT)
        if facts:
            changed |= _columns_of(replace(found.facts, **facts))  # type: ignore[type-var]
        changed["updated_at_s"] = now_s()
        connection.execute(work.update().where(work.c.id == found.id).values(**changed))
        return self._one(connection, found.id)


def _columns_of(facts: Any) -> dict[str, Any]:
    """The facts as columns: those that are queried each its own, the others as one JSON."""
    values = msgspec.to_builtins(facts)
    columns = {name: values.pop(name) for name in QUERIED if name in values}
    return {**columns, "facts": values}


def _ended(work_id: str, state: str) -> dict[str, Any]:
    return {"state": state, "finished_at_s": now_s(), "active_key": work_id}
