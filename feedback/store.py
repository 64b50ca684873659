"""Feedback in SQL: put, read, delete, and what of it is news to a trainer.

Whether a completion id was issued to the tenant is the server's to check (ids are signed);
here only what the log says counts. Knows nothing of HTTP or of training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from core.database import Database, aside, each, found, only, row_of
from core.errors import Conflict, NotFound
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from core.page import Page
from feedback.judged import Judged, read_judged, said_of
from feedback.listing import list_feedback
from feedback.tables import feedback, feedback_targets
from feedback.targets import lock_tenants, write_targets
from feedback.types import Change, Feedback, Kind, News


class FeedbackStore:
    """Feedback items, one row per (tenant, id). Safe from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, item: Feedback, *, newest_wins: bool = False) -> tuple[Feedback, Change]:
        """Store an item, durable on return; yields it as stored and what that changed.

        The same statement under the same id changes nothing. Another statement under the id
        takes its place, keeps `created_at_s` and is news to the trainer again. With `newest_wins`
        one that was said earlier than the stored one does not, and Conflict is raised for an id
        under which another answer is judged: whoever chose it could not know of the other.
        Raises NotFound when an answer it speaks of belongs to another tenant.
        """
        row = _row(item)
        mine = _is(item.tenant_id, item.id)
        query = sa.select(feedback).where(mine)
        with self._database.write() as connection:
            lock_tenants(connection, [item.tenant_id])
            old = found(connection, query, Feedback)
            if old is not None:
                if newest_wins and old.completion_id != item.completion_id:
                    raise Conflict(
                        f"Feedback '{item.id}' is about another answer already. Give each its "
                        "own id.",
                        param="id",
                    )
                late = newest_wins and old.said_at_s > item.said_at_s
                if late or _same_statement(old, item):
                    return old, "unchanged"
            row["updated_at_s"] = item.said_at_s
            if old is None:
                row["created_at_s"] = item.created_at_s
                connection.execute(feedback.insert().values(row))
            else:
                connection.execute(feedback.update().where(mine).values(row))
            seq = connection.execute(query.with_only_columns(feedback.c.seq)).scalar_one()
            write_targets(connection, seq, item.tenant_id, item.completion_ids)
            stored = found(connection, query, Feedback)
            assert stored is not None
            return stored, "created" if old is None else "updated"

    def get(self, tenant_id: TenantId, feedback_id: FeedbackId) -> Feedback:
        """One item; NotFound if the tenant has none of that id."""
        query = sa.select(feedback).where(_is(tenant_id, feedback_id))
        missing = NotFound(f"No feedback {feedback_id!r}.", param="id")
        return self._database.get(query, Feedback, missing)

    def list(
        self,
        tenant_id: TenantId,
        *,
        completion_id: CompletionId | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        end_user: str | None = None,
        adapter_id: AdapterId | None = None,
        after: FeedbackId | None = None,
        limit: int = 20,
    ) -> Page[Feedback]:
        """The tenant's feedback in order of creation, newest first, what follows `after`.

        `adapter_id`: what that adapter can learn from. Raises Invalid for a limit outside 1 to
        200, NotFound for an unknown cursor.
        """
        wanted = {
            "completion_id": completion_id,
            "adapter_id": adapter_id,
            "end_user": end_user,
            "name": name,
            "kind": kind,
        }
        return list_feedback(self._database, tenant_id, wanted, after=after, limit=limit)

    def delete(self, tenant_id: TenantId, feedback_id: FeedbackId) -> bool:
        """Erase an item; False if the tenant had none of that id."""
        mine = feedback.delete().where(_is(tenant_id, feedback_id))
        with self._database.write() as connection:
            return connection.execute(mine).rowcount > 0

    def said_of(self, adapter_id: AdapterId, newest: int) -> dict[int, int]:
        """News number -> item number of the `newest` things the adapter can learn from."""
        return said_of(self._database, adapter_id, newest)

    def judged(self, seqs: Sequence[int]) -> Iterator[Judged]:
        """The items of these numbers, each with the answers it speaks of, in small parts.

        Comments are included; pairing counts them.
        """
        return read_judged(self._database, seqs)

    def news_of(self, watermarks: Mapping[AdapterId, int]) -> dict[AdapterId, int]:
        """The newest news number of each adapter that is beyond its watermark.

        One query that seeks once for each; its cost follows their number and that of new items.
        """
        asked, new = each(self._database, watermarks), feedback_targets.c
        beyond = new.seq > sa.cast(asked.c.value, sa.BigInteger)
        of_one = sa.select(new.seq).where(only(new.adapter_id, asked.c.key), beyond)
        last = of_one.order_by(new.adapter_id.desc(), new.seq.desc()).limit(1).scalar_subquery()
        with self._database.read() as connection:
            found = connection.execute(sa.select(asked.c.key, last))
            return {AdapterId(row[0]): row[1] for row in found if row[1] is not None}

    def news(self, adapter_id: AdapterId, watermark: int) -> News | None:
        """What came for an adapter after its watermark; comments are no news.

        The cost follows the number of new items, not the amount of feedback.
        """
        new = feedback_targets.c
        query = (
            sa.select(
                sa.func.count(sa.distinct(new.feedback_seq)),
                sa.func.min(feedback.c.updated_at_s),
                sa.func.max(feedback.c.updated_at_s),
                sa.func.max(new.seq),
            )
            .join(feedback, feedback.c.seq == new.feedback_seq)
            .where(
                new.adapter_id == adapter_id,
                new.seq > watermark,
                aside(feedback.c.kind) != "comment",
            )
        )
        with self._database.read() as connection:
            row = connection.execute(query).one()
        return News(*row) if row[0] else None

    def last_seq(self) -> int:
        """The newest news number there is; unchanged means no feedback came for anybody."""
        return self._database.scalar(sa.select(sa.func.max(feedback_targets.c.seq))) or 0


def _row(item: Feedback) -> dict[str, Any]:
    """The row of an item, less `seq` and the times."""
    values = {name: getattr(item, name) for name in item.__slots__ if not name.endswith("_at_s")}
    if isinstance(item.value, int | float) and not isinstance(item.value, bool):
        values["value"] = float(item.value)
    if item.comparison is not None:
        values["comparison"] = asdict(item.comparison)
    return row_of(feedback, {**values, "kind": item.kind})


def _same_statement(left: Feedback, right: Feedback) -> bool:
    """Whether two items say the same, whenever they say it; unlike `==` it tells True from 1."""
    texts = [json.dumps(_row(item), sort_keys=True) for item in (left, right)]
    return texts[0] == texts[1]


def _is(tenant_id: TenantId, feedback_id: FeedbackId) -> sa.ColumnElement[bool]:
    return (feedback.c.tenant_id == tenant_id) & (feedback.c.id == feedback_id)
