"""Feedback in SQL: read, delete, and what of it is news to a trainer; `feedback.putting` writes.

Knows nothing of HTTP or of training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
import sqlalchemy as sa

from core.database import Database, Noun
from core.errors import AttuneError, NotFound
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from core.names import spellings
from core.page import Page, read_page
from feedback.putting import Said, Stored, put_all
from feedback.tables import feedback, feedback_targets, interactions
from feedback.types import Feedback, Interaction, Kind, News


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

        Raises Invalid for a limit outside 1 to 200, NotFound for an unknown cursor.
        """
        wanted = {feedback.c.kind: kind, feedback.c.name: name, feedback.c.end_user: end_user}
        where = [
            column.in_(spellings(value)) for column, value in wanted.items() if value is not None
        ]
        target = feedback_targets.c
        if completion_id is not None:
            about = sa.select(target.feedback_seq).where(target.completion_id == completion_id)
            where.append(feedback.c.seq.in_(about))
        if adapter_id is not None:
            answers = sa.select(target.feedback_seq).join(
                interactions, interactions.c.id == target.completion_id
            )
            of_adapter = answers.where(interactions.c.adapter_id == adapter_id)
            where.append(feedback.c.seq.in_(of_adapter))
        return read_page(
            self._database,
            sa.select(feedback).where(feedback.c.tenant_id == tenant_id),
            where,
            partial(msgspec.convert, type=Feedback),
            newest=(feedback.c.seq,),
            after=after,
            limit=limit,
            noun="feedback",
        )

    def delete(
        self, tenant_id: TenantId, feedback_id: FeedbackId, *, given_by: str | None = None
    ) -> bool:
        """Erase an item, of `given_by` alone if named; False if there was none of that id."""
        mine = feedback.delete().where(_is(tenant_id, feedback_id))
        if given_by is not None:
            mine = mine.where(feedback.c.given_by == given_by)
        with self._database.write() as connection:
            return connection.execute(mine).rowcount > 0

    def effective(self, adapter_id: AdapterId) -> Sequence[tuple[Feedback, Interaction]]:
        """All feedback the adapter can learn from, each with the completed answers it judges.

        A comparison comes once per answer it speaks of. In order of creation. Comments are
        included; pairing counts them.
        """
        about = sa.select(feedback_targets.c.feedback_seq).where(
            feedback_targets.c.adapter_id == adapter_id
        )
        said, answered = list(feedback.c), list(interactions.c)
        query = (
            sa.select(
                *(column.label(f"f_{column.name}") for column in said),
                *(column.label(f"i_{column.name}") for column in answered),
            )
            .select_from(feedback)
            .join(feedback_targets, feedback_targets.c.feedback_seq == feedback.c.seq)
            .join(interactions, interactions.c.id == feedback_targets.c.completion_id)
            .where(
                feedback.c.seq.in_(about),
                interactions.c.tenant_id == feedback.c.tenant_id,
                interactions.c.outcome == "completed",
            )
            .order_by(feedback.c.seq, interactions.c.seq)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [(_part(row, "f_", Feedback), _part(row, "i_", Interaction)) for row in rows]

    def news(self, watermarks: Mapping[AdapterId, int]) -> dict[AdapterId, News]:
        """What came for each named adapter after its watermark; those without news are absent.

        One query that seeks once per adapter in an index: its cost follows the number of
        adapters and of new items, not the amount of feedback. Comments are not news.
        """
        if not watermarks:
            return {}
        marks = sa.bindparam("marks", json.dumps(watermarks), sa.Text)
        each = (
            sa.func.json_each(marks)
            if self._database.is_sqlite
            else sa.func.json_each_text(sa.cast(marks, sa.JSON))
        ).table_valued("key", "value")
        new = feedback_targets.c
        query = (
            sa.select(
                new.adapter_id,
                sa.func.count(sa.distinct(new.feedback_seq)),
                sa.func.min(feedback.c.updated_at_s),
                sa.func.max(feedback.c.updated_at_s),
                sa.func.max(new.seq),
            )
            .select_from(each)
            .join(
                feedback_targets,
                (new.adapter_id == each.c.key) & (new.seq > sa.cast(each.c.value, sa.BigInteger)),
            )
            .join(feedback, feedback.c.seq == new.feedback_seq)
            .where(feedback.c.kind != "comment")
            .group_by(new.adapter_id)
        )
        with self._database.read() as connection:
            return {AdapterId(row[0]): News(*row[1:]) for row in connection.execute(query)}

    def last_seq(self) -> int:
        """The newest news number there is; unchanged means no feedback came for anybody."""
        return self._database.scalar(sa.select(sa.func.max(feedback_targets.c.seq))) or 0


def _is(tenant_id: TenantId, feedback_id: FeedbackId) -> sa.ColumnElement[bool]:
    return (feedback.c.tenant_id == tenant_id) & (feedback.c.id == feedback_id)


def _part(row: sa.RowMapping, prefix: str, noun: type[Noun]) -> Noun:
    part = {name.removeprefix(prefix): row[name] for name in row if name.startswith(prefix)}
    return msgspec.convert(part, noun)
