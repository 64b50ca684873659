"""Training runs in SQL: at most one active per adapter, every step safe to repeat.

Knows nothing of how a run is carried out; the durable workflow calls these methods and may,
after a crash, call one twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from core.clock import now_s
from core.database import Database, insert_ignoring_duplicates
from core.errors import Conflict, Invalid, NotFound
from core.ids import AdapterId, RunId, TenantId, new_id
from feedback.rows import fit
from feedback.run_tables import run_events, runs
from feedback.types import Check, Page, Verdict

ActiveState = Literal["queued", "snapshot", "train", "evaluate", "gate", "publish"]
EndState = Literal["succeeded", "rejected", "failed", "cancelled"]
RunState = ActiveState | EndState
ACTIVE: tuple[ActiveState, ...] = ("queued", "snapshot", "train", "evaluate", "gate", "publish")
END: tuple[EndState, ...] = ("succeeded", "rejected", "failed", "cancelled")
_ACTIVE_KEY = "active"


@dataclass(frozen=True, slots=True)
class Run:
    """One training run. Times in seconds since the epoch.

    `last_feedback_seq` is the watermark: the newest feedback known when it was opened.
    `live_before` is the version live at that time, `version` the candidate it made.
    """

    id: RunId
    tenant_id: TenantId
    adapter_id: AdapterId
    state: RunState
    trigger: str
    created_at_s: float
    updated_at_s: float
    finished_at_s: float | None
    cancel_requested_at_s: float | None
    last_feedback_seq: int
    last_feedback_at_s: float | None
    snapshot_digest: str | None
    live_before: int | None
    version: int | None
    verdict: Verdict | None
    error: str | None

    @property
    def is_active(self) -> bool:
        """Whether it is still under way."""
        return self.state in ACTIVE


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One line of a run's log: a message for people or a set of figures."""

    id: int
    at_s: float
    type: Literal["message", "metrics"]
    message: str
    data: Mapping[str, Any]


class RunStore:
    """Runs and their events. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(
        self,
        tenant_id: TenantId,
        adapter_id: AdapterId,
        trigger: str,
        last_feedback_seq: int,
        last_feedback_at_s: float | None,
        live_before: int | None,
        *,
        run_id: RunId | None = None,
    ) -> Run | None:
        """Queue a run; None if the adapter has an active one.

        With a `run_id` that was opened before, yields that run as it now is: a replayed step
        finds its own run again.
        """
        wanted = run_id or RunId(new_id("run"))
        at_s = now_s()
        row = {
            "id": wanted,
            "tenant_id": tenant_id,
            "adapter_id": adapter_id,
            "state": "queued",
            "trigger": fit(trigger, 64),
            "created_at_s": at_s,
            "updated_at_s": at_s,
            "last_feedback_seq": last_feedback_seq,
            "last_feedback_at_s": last_feedback_at_s,
            "live_before": live_before,
            "active_key": _ACTIVE_KEY,
        }
        with self._database.write() as connection:
            insert_ignoring_duplicates(connection, runs, [row])
            found = _find(connection, runs.c.id == wanted, runs.c.adapter_id == adapter_id)
        return None if found is None else _run_of(found)

    def advance(
        self,
        run_id: RunId,
        state: ActiveState,
        *,
        snapshot_digest: str | None = None,
        version: int | None = None,
    ) -> Run:
        """Move a run forward to `state` and record what it has made so far.

        A state it has reached or passed is left as it is. Raises Conflict once the run has
        ended, so that a cancelled run's worker stops, and NotFound for an unknown run.
        """
        if state not in ACTIVE:
            raise Invalid(f"{state!r} is not a state of an active run.", param="state")
        with self._database.write() as connection:
            run = _run_of(_locked(connection, run_id))
            if run.state not in ACTIVE:
                raise Conflict(f"Run {run_id} has ended: it {_told(run.state)}.")
            changed: dict[str, Any] = {"updated_at_s": now_s()}
            if ACTIVE.index(state) > ACTIVE.index(run.state):
                changed["state"] = state
            if snapshot_digest is not None:
                changed["snapshot_digest"] = snapshot_digest
            if version is not None:
                changed["version"] = version
            connection.execute(runs.update().where(runs.c.id == run_id).values(**changed))
            return _run_of(_locked(connection, run_id))

    def finish(
        self,
        run_id: RunId,
        state: EndState,
        *,
        verdict: Verdict | None = None,
        error: str | None = None,
        version: int | None = None,
    ) -> Run:
        """End a run and free its adapter for the next; ending it twice alike changes nothing.

        Raises Conflict if it has ended otherwise, NotFound for an unknown run.
        """
        if state not in END:
            raise Invalid(f"{state!r} does not end a run.", param="state")
        with self._database.write() as connection:
            run = _run_of(_locked(connection, run_id))
            if run.state == state:
                return run
            if not run.is_active:
                raise Conflict(f"Run {run_id} has ended already: it {_told(run.state)}.")
            changed: dict[str, Any] = _ended(run_id, state)
            if verdict is not None:
                changed["verdict"] = asdict(verdict)
            if error is not None:
                changed["error"] = fit(error, 20_000)
            if version is not None:
                changed["version"] = version
            connection.execute(runs.update().where(runs.c.id == run_id).values(**changed))
            return _run_of(_locked(connection, run_id))

    def request_cancel(self, tenant_id: TenantId, run_id: RunId) -> Run:
        """Ask for a run to stop: a queued one ends at once, another at its worker's next look.

        Repeating it changes nothing. Raises Conflict if the run has ended otherwise, NotFound
        if the tenant has no such run.
        """
        with self._database.write() as connection:
            run = _run_of(_locked(connection, run_id, runs.c.tenant_id == tenant_id))
            if run.state == "cancelled":
                return run
            if not run.is_active:
                raise Conflict(f"Run {run_id} cannot be cancelled: it {_told(run.state)}.")
            changed: dict[str, Any] = {}
            if run.cancel_requested_at_s is None:
                changed = {"cancel_requested_at_s": now_s(), "updated_at_s": now_s()}
            if run.state == "queued":
                changed |= _ended(run_id, "cancelled")
            if changed:
                connection.execute(runs.update().where(runs.c.id == run_id).values(**changed))
            return _run_of(_locked(connection, run_id))

    def get(self, tenant_id: TenantId, run_id: RunId) -> Run:
        """One run; NotFound if the tenant has none of that id."""
        with self._database.read() as connection:
            row = _find(connection, runs.c.id == run_id, runs.c.tenant_id == tenant_id)
        if row is None:
            raise NotFound(f"No run {run_id!r}.", param="run_id")
        return _run_of(row)

    def find(self, run_id: RunId) -> Run:
        """One run of whatever tenant, for those who carry it out; NotFound for an unknown id."""
        with self._database.read() as connection:
            row = _find(connection, runs.c.id == run_id)
        if row is None:
            raise NotFound(f"No run {run_id!r}.", param="run_id")
        return _run_of(row)

    def count_by_state(self) -> dict[str, int]:
        """How many runs are in each state, of all tenants."""
        query = sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)
        with self._database.read() as connection:
            return {str(row[0]): int(row[1]) for row in connection.execute(query)}

    def list(
        self,
        tenant_id: TenantId,
        *,
        adapter_id: AdapterId | None = None,
        after: RunId | None = None,
        limit: int = 20,
    ) -> Page[Run]:
        """The tenant's runs, newest first, those following `after`; limit 1 to 200."""
        if not 1 <= limit <= 200:
            raise Invalid(f"limit must be 1 to 200, not {limit}.", param="limit")
        query = sa.select(runs).where(runs.c.tenant_id == tenant_id)
        if adapter_id is not None:
            query = query.where(runs.c.adapter_id == adapter_id)
        with self._database.read() as connection:
            if after is not None:
                cursor = _find(connection, runs.c.id == after, runs.c.tenant_id == tenant_id)
                if cursor is None:
                    raise NotFound(f"No run {after!r} to continue after.", param="after")
                here = sa.tuple_(runs.c.created_at_s, runs.c.id)
                query = query.where(here < sa.tuple_(cursor["created_at_s"], cursor["id"]))
            query = query.order_by(runs.c.created_at_s.desc(), runs.c.id.desc()).limit(limit + 1)
            rows = connection.execute(query).mappings().all()
        return Page(tuple(_run_of(row) for row in rows[:limit]), len(rows) > limit)

    def active(self) -> Sequence[Run]:
        """Every run under way, of all tenants, oldest first; for workers after a restart."""
        query = sa.select(runs).where(runs.c.active_key == _ACTIVE_KEY)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(runs.c.created_at_s, runs.c.id))
            return [_run_of(row) for row in rows.mappings()]

    def watermark(self, adapter_id: AdapterId) -> int:
        """The feedback number up to which the adapter's runs have looked; 0 before the first."""
        query = sa.select(sa.func.max(runs.c.last_feedback_seq)).where(
            runs.c.adapter_id == adapter_id
        )
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def watermarks(self) -> dict[AdapterId, int]:
        """`watermark` of every adapter that ever had a run, in one query."""
        query = sa.select(runs.c.adapter_id, sa.func.max(runs.c.last_feedback_seq)).group_by(
            runs.c.adapter_id
        )
        with self._database.read() as connection:
            return {AdapterId(row[0]): int(row[1]) for row in connection.execute(query)}

    def event(
        self,
        run_id: RunId,
        type: Literal["message", "metrics"],
        message: str,
        data: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> None:
        """Add a line to a run's log; with a `key` (64 characters) it is added only once.

        Raises NotFound for an unknown run.
        """
        row = {
            "run_id": run_id,
            "key": key,
            "at_s": now_s(),
            "type": type,
            "message": fit(message, 20_000),
            "data": data or {},
        }
        try:
            with self._database.write() as connection:
                insert_ignoring_duplicates(connection, run_events, [row])
        except sa.exc.IntegrityError as error:
            raise NotFound(f"No run {run_id!r}.", param="run_id") from error

    def events(self, run_id: RunId, after: int = 0, limit: int = 1_000) -> Sequence[RunEvent]:
        """A run's log in order, the lines whose id is greater than `after`."""
        query = (
            sa.select(run_events)
            .where(run_events.c.run_id == run_id, run_events.c.id > after)
            .order_by(run_events.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [RunEvent(**{name: row[name] for name in RunEvent.__slots__}) for row in rows]


def _find(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> sa.RowMapping | None:
    return connection.execute(sa.select(runs).where(*where)).mappings().one_or_none()


def _locked(
    connection: sa.Connection, run_id: RunId, *where: sa.ColumnElement[bool]
) -> sa.RowMapping:
    query = sa.select(runs).where(runs.c.id == run_id, *where).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"No run {run_id!r}.", param="run_id")
    return row


def _ended(run_id: RunId, state: EndState) -> dict[str, Any]:
    at_s = now_s()
    return {"state": state, "finished_at_s": at_s, "updated_at_s": at_s, "active_key": run_id}


def _told(state: RunState) -> str:
    return f"was {state}" if state in ("rejected", "cancelled") else state


def _run_of(row: sa.RowMapping) -> Run:
    values = {name: row[name] for name in Run.__slots__}
    verdict = row["verdict"]
    if verdict is not None:
        checks = tuple(Check(**check) for check in verdict["checks"])
        values["verdict"] = Verdict(promoted=verdict["promoted"], checks=checks)
    return Run(**values)
