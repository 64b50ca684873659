"""Adapters, their numbered versions and the pointer to the live one, in the database.

A version row is written once; only its `state` moves. Activation is compare-and-set on the
adapter's `generation`, and every move of the pointer leaves a row of history.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from adapters import activations, tables
from adapters.activations import Activation
from adapters.types import Adapter, AdapterScope, ArtifactInfo, Learning, Version, VersionState
from core.clock import now_s
from core.database import Database, announce, found, row_of
from core.errors import Conflict, Invalid, NotFound
from core.ids import AdapterId, TenantId, new_id, parse_name
from core.names import title_of


class Registry:
    """The truth about adapters; servers reconcile their engines towards it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        tenant_id: TenantId,
        name: str,
        *,
        scope: AdapterScope = "tenant",
        subject: str | None = None,
        learning: Learning | None = None,
    ) -> Adapter:
        """A new adapter without versions: the base model answers for it until one is live.

        Raises Invalid for a bad name, scope or subject, Conflict if the name is taken.
        """
        if scope not in ("tenant", "domain", "user"):
            raise Invalid("scope is one of tenant, domain, user.", param="scope")
        if (scope == "tenant") != (subject is None):
            raise Invalid(
                "An adapter of scope 'domain' or 'user' needs a subject (the domain or the end "
                "user's id); one of scope 'tenant' has none.",
                param="subject",
            )
        adapter = Adapter(
            id=AdapterId(new_id("ada")),
            tenant_id=tenant_id,
            name=parse_name(name),
            scope=scope,
            subject=title_of(subject, "subject"),
            created_at_s=now_s(),
            live_version=None,
            generation=0,
            learning=learning or Learning(),
        )
        try:
            with self._database.write() as connection:
                connection.execute(tables.adapters.insert().values(asdict(adapter)))
                announce(connection, "adapters", adapter.id)
        except IntegrityError as error:
            raise Conflict(
                f"An adapter named '{name}' exists already; push a version to it with "
                f"POST /v1/adapters/{name}/versions, or choose another name.",
                param="name",
            ) from error
        return adapter

    def get(self, tenant_id: TenantId, name: str) -> Adapter:
        """The tenant's adapter of that name. Raises NotFound."""
        missing = NotFound(f"No adapter '{name[:80]}'. See GET /v1/adapters.", param="adapter")
        try:
            parse_name(name)
        except Invalid as error:
            raise missing from error  # no adapter can be called that; not every name is text to SQL
        query = sa.select(tables.adapters).where(
            tables.adapters.c.tenant_id == tenant_id, tables.adapters.c.name == name
        )
        return self._database.get(query, Adapter, missing)

    def by_id(self, adapter_id: AdapterId) -> Adapter:
        """The adapter of that id. Raises NotFound."""
        query = sa.select(tables.adapters).where(tables.adapters.c.id == adapter_id)
        return self._database.get(query, Adapter, NotFound("No such adapter."))

    def names(self, adapter_ids: Collection[AdapterId]) -> dict[AdapterId, str]:
        """What adapters of these ids, some two hundred at most, are called."""
        columns = tables.adapters.c
        query = sa.select(columns.id, columns.name).where(columns.id.in_(adapter_ids))
        with self._database.read() as connection:
            return {AdapterId(row.id): row.name for row in connection.execute(query)}

    def adapters(self, tenant_id: TenantId | None = None) -> list[Adapter]:
        """The tenant's adapters (all tenants' for None), oldest first."""
        query = sa.select(tables.adapters).order_by(
            tables.adapters.c.created_at_s, tables.adapters.c.id
        )
        if tenant_id is not None:
            query = query.where(tables.adapters.c.tenant_id == tenant_id)
        return self._database.find_all(query, Adapter)

    def set_learning(self, adapter_id: AdapterId, learning: Learning) -> Adapter:
        """Change how an adapter learns."""
        with self._database.write() as connection:
            connection.execute(
                tables.adapters.update()
                .where(tables.adapters.c.id == adapter_id)
                .values(learning=asdict(learning))
            )
            announce(connection, "adapters", adapter_id)
        return self.by_id(adapter_id)

    def add_version(
        self,
        adapter_id: AdapterId,
        info: ArtifactInfo,
        *,
        source: Literal["upload", "run"],
        state: VersionState = "candidate",
        run_id: str | None = None,
        parent: int | None = None,
        note: str = "",
    ) -> Version:
        """Register validated weights as the next number.

        A run registers at most one version: called again with the same `run_id` it returns
        the first, so that a resumed run does not leave two. Raises Conflict for weights that were
        validated against another base model than the present one.
        """
        with self._database.write() as connection:
            _require_base(connection, info)
            # Whoever adds to this adapter waits here: looking for the run comes after.
            connection.execute(
                sa.select(tables.adapters.c.id)
                .where(tables.adapters.c.id == adapter_id)
                .with_for_update()
            )
            if run_id is not None:
                of_run = sa.select(tables.versions).where(tables.versions.c.run_id == run_id)
                if (first := found(connection, of_run, Version)) is not None:
                    return first
            number = connection.scalar(
                tables.adapters.update()
                .where(tables.adapters.c.id == adapter_id)
                .values(next_number=tables.adapters.c.next_number + 1)
                .returning(tables.adapters.c.next_number)
            )
            if number is None:
                raise NotFound("No such adapter.")
            values = {
                "adapter_id": adapter_id,
                "number": number - 1,
                "state": state,
                **asdict(info),
                "source": source,
                "run_id": run_id,
                "parent": parent,
                "created_at_s": now_s(),
                "note": note,
            }
            inserted = tables.versions.insert().values(row_of(tables.versions, values))
            version = found(connection, inserted.returning(tables.versions), Version)
            assert version is not None
            announce(connection, "versions", adapter_id)
            return version

    def version(self, adapter_id: AdapterId, number: int) -> Version:
        """One version. Raises NotFound."""
        if not activations.is_number(number):
            raise NotFound("This adapter has no such version.", param="version")
        query = sa.select(tables.versions).where(
            tables.versions.c.adapter_id == adapter_id, tables.versions.c.number == number
        )
        missing = NotFound(f"This adapter has no version {number}.", param="version")
        return self._database.get(query, Version, missing)

    def versions(self, adapter_id: AdapterId) -> list[Version]:
        """The versions of an adapter, oldest first."""
        mine = sa.select(tables.versions).where(tables.versions.c.adapter_id == adapter_id)
        query = mine.order_by(tables.versions.c.number)
        return self._database.find_all(query, Version)

    def reject(self, adapter_id: AdapterId, number: int) -> None:
        """Mark a candidate as rejected; it stays for inspection and is never served as live."""
        with self._database.write() as connection:
            connection.execute(
                tables.versions.update()
                .where(
                    tables.versions.c.adapter_id == adapter_id,
                    tables.versions.c.number == number,
                    tables.versions.c.state == "candidate",
                )
                .values(state="rejected")
            )
            announce(connection, "versions", adapter_id)

    def activate(
        self,
        adapter: Adapter,
        number: int | None,
        *,
        actor: str,
        reason: str,
        allow_rejected: bool = False,
    ) -> Adapter:
        """Point the adapter at `number` (None: the base model), if nobody else did meanwhile.

        `adapter` is what the caller decided on: if its generation has moved on, Conflict is
        raised and nothing changes. NotFound for a version that does not exist, Conflict for a
        rejected or quarantined one unless `allow_rejected`. Returns the adapter as it is now.
        """
        with self._database.write() as connection:
            activations.move(
                connection, adapter, number, actor, reason, allow_rejected=allow_rejected
            )
        return replace(adapter, live_version=number, generation=adapter.generation + 1)

    def rollback(self, adapter: Adapter, *, actor: str, reason: str = "") -> Adapter:
        """Activate what was live before the present version. Conflict if nothing was.

        The move itself joins the history: rolling back twice is back where one was.
        """
        # A version activated again while it was live has only moved onto itself.
        moves = [m for m in self.history(adapter.id) if m.previous != m.version]
        if not moves:
            raise Conflict(f"'{adapter.name}' was never activated: there is nothing to undo.")
        before = moves[0].previous
        if before is not None and self.version(adapter.id, before).state == "quarantined":
            raise activations.quarantined(adapter, before)
        return self.activate(
            adapter,
            before,
            actor=actor,
            reason=reason or f"rollback from version {adapter.live_version}",
            allow_rejected=True,
        )

    def history(self, adapter_id: AdapterId, *, limit: int = 100) -> list[Activation]:
        """Moves of the live pointer, newest first."""
        return self._database.find_all(activations.latest(adapter_id, limit), Activation)


def _require_base(connection: sa.Connection, info: ArtifactInfo) -> None:
    # Held until the version is written: the base model does not change in between.
    query = sa.select(tables.base_model.c.digest).with_for_update(read=True)
    present = connection.scalar(query)
    if None not in (present, info.base_digest) and present != info.base_digest:
        raise Conflict(
            "These weights were checked against another base model than the one adapters are "
            "served on now: another server or trainer has changed it. Restart this one with that "
            "base model.",
            code="other_base",
        )
