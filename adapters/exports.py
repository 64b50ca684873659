"""Exports for devices, in the database: what was asked for, how far it is, what came of it.

Every step may be repeated: the durable workflow calls these methods and may, after a crash, call
one twice. Knows nothing of how an export is built; its manifests are opaque JSON here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from adapters.tables import exported_bases, exports
from core.clock import now_s
from core.database import Database, insert_ignoring_duplicates
from core.errors import Conflict, Invalid, NotFound
from core.ids import AdapterId, TenantId, new_id

Layout = Literal["merged", "base+adapters"]
Precision = Literal["fp32", "int8", "int4"]
ActiveState = Literal["queued", "building", "verifying"]
ExportState = Literal["queued", "building", "verifying", "ready", "failed", "cancelled"]
LAYOUTS: tuple[Layout, ...] = ("merged", "base+adapters")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int4")
ACTIVE: tuple[ActiveState, ...] = ("queued", "building", "verifying")
STATES: tuple[ExportState, ...] = (*ACTIVE, "ready", "failed", "cancelled")
_ACTIVE_KEY = "active"
_MAX_TEXT = 20_000


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an export: `path` in the export's folder, and the blob that holds it."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export; `model` is its public name. Two equal requests mean the same files.

    `adapter_id` and `version` are both set or, for the base model alone, both None. `base` names
    the base model, so that what was exported of another base is not taken for this one's.
    """

    tenant_id: TenantId
    model: str
    adapter_id: AdapterId | None
    version: int | None
    layout: Layout
    precision: Precision
    base: str

    @property
    def key(self) -> str:
        """A hash of all of it."""
        parts = (self.adapter_id, self.version, self.layout, self.precision, self.base)
        text = json.dumps([self.tenant_id, self.model, *parts])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Export:
    """One export. Times in seconds since the epoch, `progress` from 0 to 1."""

    id: str
    tenant_id: TenantId
    model: str
    adapter_id: AdapterId | None
    version: int | None
    layout: Layout
    precision: Precision
    state: ExportState
    progress: float
    message: str
    error: str | None
    manifest: Mapping[str, Any] | None
    adapter_manifest: Mapping[str, Any] | None
    files: tuple[ExportFile, ...]
    created_at_s: float
    updated_at_s: float
    finished_at_s: float | None
    cancel_requested_at_s: float | None

    @property
    def is_active(self) -> bool:
        """Whether it is still under way."""
        return self.state in ACTIVE


@dataclass(frozen=True, slots=True)
class ExportFilter:
    """Which exports to list; None means any.

    `model` is a version's name (`support@3`), an adapter's (all its versions), or `base`.
    """

    model: str | None = None
    state: ExportState | None = None
    layout: Layout | None = None
    precision: Precision | None = None


class ExportStore:
    """Exports in SQL. Safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, request: ExportRequest) -> tuple[Export, bool]:
        """Queue an export and say that it is new, or yield the same one that is under way."""
        at_s = now_s()
        row: dict[str, Any] = {
            "id": new_id("exp"),
            "tenant_id": request.tenant_id,
            "model": request.model,
            "adapter_id": request.adapter_id,
            "version": request.version,
            "layout": request.layout,
            "precision": request.precision,
            "state": "queued",
            "progress": 0.0,
            "message": "Waiting for the trainer.",
            "files": [],
            "created_at_s": at_s,
            "updated_at_s": at_s,
            "request_key": request.key,
            "active_key": _ACTIVE_KEY,
        }
        with self._database.write() as connection:
            insert_ignoring_duplicates(connection, exports, [row])
            found = _find(
                connection,
                exports.c.request_key == request.key,
                exports.c.active_key == _ACTIVE_KEY,
            )
        if found is None:  # the one in our way ended this very moment
            return self.open(request)
        return _export_of(found), found["id"] == row["id"]

    def ready(self, request: ExportRequest) -> Export | None:
        """The newest finished export of exactly this; None if there is none."""
        query = (
            sa.select(exports)
            .where(exports.c.request_key == request.key, exports.c.state == "ready")
            .order_by(exports.c.created_at_s.desc(), exports.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _export_of(row)

    def advance(self, export_id: str, state: ActiveState, progress: float, message: str) -> Export:
        """Say how far an export is; neither state nor progress ever moves back.

        Raises Conflict with code `cancelled` once somebody asked for it to stop, Conflict if it
        has ended otherwise, NotFound for an unknown id.
        """
        with self._database.write() as connection:
            export = _export_of(_locked(connection, export_id))
            if export.cancel_requested_at_s is not None or export.state == "cancelled":
                raise Conflict("The export was cancelled.", code="cancelled")
            if not export.is_active:
                raise Conflict(f"Export {export_id} has ended: it is {export.state}.")
            changed: dict[str, Any] = {
                "progress": max(export.progress, min(1.0, progress)),
                "message": _text(message),
                "updated_at_s": now_s(),
            }
            if STATES.index(state) > STATES.index(export.state):
                changed["state"] = state
            connection.execute(exports.update().where(exports.c.id == export_id).values(**changed))
            return _export_of(_locked(connection, export_id))

    def finish(
        self,
        export_id: str,
        *,
        manifest: Mapping[str, Any],
        adapter_manifest: Mapping[str, Any] | None,
        files: Sequence[ExportFile],
    ) -> Export:
        """Make an export ready; doing it twice changes nothing.

        Raises Conflict if it has ended otherwise, NotFound for an unknown id.
        """
        changed: dict[str, Any] = {
            "manifest": dict(manifest),
            "files": [
                {"path": file.path, "sha256": file.sha256, "size_bytes": file.size_bytes}
                for file in files
            ],
            "progress": 1.0,
            "message": f"{len(files)} files, ready to download.",
        }
        if adapter_manifest is not None:
            changed["adapter_manifest"] = dict(adapter_manifest)
        return self._end(export_id, "ready", changed)

    def fail(self, export_id: str, error: str, *, cancelled: bool = False) -> Export:
        """End an export that could not be made, or was cancelled; twice changes nothing."""
        state: ExportState = "cancelled" if cancelled else "failed"
        message = "Cancelled." if cancelled else "Failed."
        return self._end(export_id, state, {"error": _text(error), "message": message})

    def request_cancel(self, tenant_id: TenantId, export_id: str) -> Export:
        """Ask for an export to stop: a queued one ends at once, another within a second or two.

        Repeating it changes nothing. Raises Conflict if it has ended otherwise, NotFound if the
        tenant has no such export.
        """
        with self._database.write() as connection:
            export = _export_of(_locked(connection, export_id, exports.c.tenant_id == tenant_id))
            if export.state == "cancelled":
                return export
            if not export.is_active:
                raise Conflict(f"Export {export_id} cannot be cancelled: it is {export.state}.")
            changed: dict[str, Any] = {"cancel_requested_at_s": now_s(), "updated_at_s": now_s()}
            if export.state == "queued":
                changed |= _ended(export_id, "cancelled")
                changed["message"] = "Cancelled."
            connection.execute(exports.update().where(exports.c.id == export_id).values(**changed))
            return _export_of(_locked(connection, export_id))

    def get(self, tenant_id: TenantId, export_id: str) -> Export:
        """One export; NotFound if the tenant has none of that id."""
        with self._database.read() as connection:
            row = _find(connection, exports.c.id == export_id, exports.c.tenant_id == tenant_id)
        if row is None:
            raise _missing(export_id)
        return _export_of(row)

    def find(self, export_id: str) -> Export:
        """One export of whatever tenant, for those who carry it out; NotFound for an unknown id."""
        with self._database.read() as connection:
            row = _find(connection, exports.c.id == export_id)
        if row is None:
            raise _missing(export_id)
        return _export_of(row)

    def list(
        self,
        tenant_id: TenantId,
        where: ExportFilter = ExportFilter(),
        *,
        after: str | None = None,
        limit: int = 20,
    ) -> tuple[tuple[Export, ...], bool]:
        """The tenant's exports, newest first, those following `after`, and whether more follow.

        Raises Invalid for a limit outside 1 to 200, NotFound for an unknown cursor.
        """
        if not 1 <= limit <= 200:
            raise Invalid(f"limit must be 1 to 200, not {limit}.", param="limit")
        query = sa.select(exports).where(*_conditions(tenant_id, where))
        with self._database.read() as connection:
            if after is not None:
                cursor = _find(connection, exports.c.id == after, exports.c.tenant_id == tenant_id)
                if cursor is None:
                    raise NotFound(f"No export {after[:80]!r} to continue after.", param="after")
                here = sa.tuple_(exports.c.created_at_s, exports.c.id)
                query = query.where(here < sa.tuple_(cursor["created_at_s"], cursor["id"]))
            order = (exports.c.created_at_s.desc(), exports.c.id.desc())
            rows = connection.execute(query.order_by(*order).limit(limit + 1)).mappings().all()
        return tuple(_export_of(row) for row in rows[:limit]), len(rows) > limit

    def active(self) -> Sequence[Export]:
        """Every export under way, of all tenants, oldest first; for workers after a restart."""
        query = sa.select(exports).where(exports.c.active_key == _ACTIVE_KEY)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(exports.c.created_at_s, exports.c.id))
            return [_export_of(row) for row in rows.mappings()]

    def count_by_state(self) -> dict[str, int]:
        """How many exports are in each state, of all tenants."""
        query = sa.select(exports.c.state, sa.func.count()).group_by(exports.c.state)
        with self._database.read() as connection:
            return {str(row[0]): int(row[1]) for row in connection.execute(query)}

    def base(self, base_digest: str, precision: str) -> Mapping[str, Any] | None:
        """The manifest of the exported base model, if it was exported; its files are blobs."""
        query = sa.select(exported_bases.c.manifest).where(
            exported_bases.c.base_digest == base_digest, exported_bases.c.precision == precision
        )
        with self._database.read() as connection:
            manifest: Mapping[str, Any] | None = connection.scalar(query)
        return manifest

    def record_base(self, base_digest: str, precision: str, manifest: Mapping[str, Any]) -> None:
        """Note an exported base model; what was noted before is replaced."""
        key = (exported_bases.c.base_digest == base_digest) & (
            exported_bases.c.precision == precision
        )
        row = {
            "base_digest": base_digest,
            "precision": precision,
            "manifest": dict(manifest),
            "created_at_s": now_s(),
        }
        with self._database.write() as connection:
            if not insert_ignoring_duplicates(connection, exported_bases, [row]):
                connection.execute(exported_bases.update().where(key).values(**row))

    def _end(self, export_id: str, state: ExportState, changed: Mapping[str, Any]) -> Export:
        with self._database.write() as connection:
            export = _export_of(_locked(connection, export_id))
            if export.state == state:
                return export
            if not export.is_active:
                raise Conflict(f"Export {export_id} has ended already: it is {export.state}.")
            values = {**_ended(export_id, state), **changed}
            connection.execute(exports.update().where(exports.c.id == export_id).values(**values))
            return _export_of(_locked(connection, export_id))


def _conditions(tenant_id: TenantId, where: ExportFilter) -> list[sa.ColumnElement[bool]]:
    wanted = {
        exports.c.state: where.state,
        exports.c.layout: where.layout,
        exports.c.precision: where.precision,
    }
    named = [column == value for column, value in wanted.items() if value is not None]
    if where.model is not None:
        named.append(
            (exports.c.model == where.model)
            | exports.c.model.startswith(f"{where.model}@", autoescape=True)
        )
    return [exports.c.tenant_id == tenant_id, *named]


def _find(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> sa.RowMapping | None:
    return connection.execute(sa.select(exports).where(*where)).mappings().one_or_none()


def _locked(
    connection: sa.Connection, export_id: str, *where: sa.ColumnElement[bool]
) -> sa.RowMapping:
    query = sa.select(exports).where(exports.c.id == export_id, *where).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise _missing(export_id)
    return row


def _missing(export_id: str) -> NotFound:
    return NotFound(f"No export {export_id[:80]!r}. See GET /v1/exports.", param="export_id")


def _ended(export_id: str, state: ExportState) -> dict[str, Any]:
    at_s = now_s()
    return {"state": state, "finished_at_s": at_s, "updated_at_s": at_s, "active_key": export_id}


def _text(text: str) -> str:
    """Text as either database takes it: no NUL, no lone surrogate, not without end."""
    return text[:_MAX_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _export_of(row: sa.RowMapping) -> Export:
    values = {name: row[name] for name in Export.__slots__}
    values["files"] = tuple(ExportFile(**file) for file in row["files"])
    return Export(**values)
