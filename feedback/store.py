"""Feedback in SQL: read, delete, and what of it is news to a trainer; `feedback.putting` writes.

Knows nothing of HTTP or of training.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import sqlalchemy as sa

from core.database import Database
from core.errors import AttuneError, NotFound
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from core.names import one_spelling
from core.page import Page
from core.queries import aside, each, only
from feedback.judged import Judged, read_judged, said_of
from feedback.listing import list_feedback, read_about
from feedback.putting import Said, Stored, put_all
from feedback.tables import feedback, feedback_targets
from feedback.types import Feedback, Kind, News


class FeedbackStore:
    """Feedback items, one row per (tenant, id). Safe from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, item: Feedback, *, newest_wins: bool = False, own_only: bool = False) -> Stored:
        """Store an item, durable on return, as `put_all` does; raises what refuses it."""
        (outcome,) = self.put_all([Said(item, newest_wins, own_only)])
        if isinstance(outcome, AttuneError):
            raise outcome
        return outcome

    def put_all(self, said: Sequence[Said]) -> Sequence[Stored | AttuneError]:
        """Store items in one transaction, durable on return: see `feedback.putting`."""
        return put_all(self._database, said)

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
            "end_user": one_spelling(end_user),
            "name": one_spelling(name),
            "kind": kind,
        }
        return list_feedback(self._database, tenant_id, wanted, after=after, limit=limit)

    def about(
        self, tenant_id: TenantId, completion_ids: Collection[CompletionId], *, each: int = 20
    ) -> Mapping[CompletionId, Sequence[Feedback]]:
        """What the tenant said of these answers, some two hundred at most: of each the newest."""
        return read_about(self._database, tenant_id, completion_ids, each)

    def delete(
        self, tenant_id: TenantId, feedback_id: FeedbackId, *, given_by: str | None = None
    ) -> bool:
        """Erase an item, of `given_by` alone if named; False if there was none of that id."""
        mine = feedback.delete().where(_is(tenant_id, feedback_id))
        if given_by is not None:
            mine = mine.where(feedback.c.given_by == given_by)
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

    def count_since(self, adapter_id: AdapterId, seq: int, *, most: int = 1000) -> int:
        """How many things the adapter can learn from came after a news number, up to `most`."""
        new = feedback_targets.c
        some = (
            sa.select(new.feedback_seq)
            .where(only(new.adapter_id, adapter_id), new.seq > seq)
            .order_by(new.adapter_id, new.seq)
            .limit(most)
            .subquery()
        )
        query = sa.select(sa.func.count(sa.distinct(some.c.feedback_seq)))
        return self._database.scalar(query) or 0

    def last_seq(self) -> int:
        """The newest news number there is; unchanged means no feedback came for anybody."""
        return self._database.scalar(sa.select(sa.func.max(feedback_targets.c.seq))) or 0


def _is(tenant_id: TenantId, feedback_id: FeedbackId) -> sa.ColumnElement[bool]:
    return (feedback.c.tenant_id == tenant_id) & (feedback.c.id == feedback_id)
