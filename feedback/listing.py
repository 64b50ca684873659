"""Pages of feedback: a filter that matches little costs no more than what it matches.

Owns which filter a page is read by: each has an index, and the one that leaves least is found by
counting, so that no planner has to guess. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import msgspec
import sqlalchemy as sa

from core.database import Database
from core.ids import CompletionId, FeedbackId, TenantId
from core.page import Page, page_of, place, read_page
from core.queries import aside, only
from feedback.tables import feedback, feedback_targets, interactions
from feedback.types import Feedback

_FEW = 1000
_AT_ONCE = 500
_OF_ANSWERS = ("completion_id", "adapter_id")
"""Filters by the answers an item speaks of; the others are columns of the item."""

_read = partial(msgspec.convert, type=Feedback)


def list_feedback(
    database: Database,
    tenant_id: TenantId,
    wanted: Mapping[str, str | None],
    *,
    after: FeedbackId | None,
    limit: int,
) -> Page[Feedback]:
    """The tenant's feedback that is as `wanted` (None: any), newest first, what follows `after`.

    Raises Invalid for a limit outside 1 to 200, NotFound for an unknown cursor.
    """
    asked = {name: value for name, value in wanted.items() if value is not None}
    rarest = _rarest(database, tenant_id, asked)
    others = [_also(name, value) for name, value in asked.items() if name != rarest]
    if rarest in _OF_ANSWERS:
        return _about(database, tenant_id, (rarest, asked[rarest]), others, after, limit)
    owner: dict[str, str] = {"tenant_id": tenant_id}
    return read_page(
        database,
        feedback,
        owner,
        owner if rarest is None else {**owner, rarest: asked[rarest]},
        others,
        _read,
        newest=(feedback.c.seq,),
        after=after,
        limit=limit,
        noun="feedback",
    )


def read_about(
    database: Database,
    tenant_id: TenantId,
    completion_ids: Collection[CompletionId],
    each: int,
) -> dict[CompletionId, list[Feedback]]:
    """The newest things the tenant said of each answer, so many of `each` at most."""
    target = feedback_targets.c
    told = sa.exists().where(target.completion_id == interactions.c.id)
    judged = sa.select(interactions.c.id).where(interactions.c.id.in_(completion_ids), told)
    newest = (
        sa.select(target.completion_id, target.feedback_seq)
        .where(only(target.completion_id, sa.bindparam("name")))
        .order_by(target.completion_id.desc(), target.feedback_seq.desc())
        .limit(each)
    )
    with database.read() as connection:
        # One by one: somebody may have spoken of one of them a hundred thousand times.
        names = connection.scalars(judged).all()
        places = [row for name in names for row in connection.execute(newest, {"name": name})]
        said = sa.select(feedback).where(
            feedback.c.seq.in_({row.feedback_seq for row in places}),
            aside(feedback.c.tenant_id) == tenant_id,
        )
        items = {row["seq"]: _read(row) for row in connection.execute(said).mappings()}
    found: dict[CompletionId, list[Feedback]] = {}
    for name, seq in places:
        if seq in items:
            found.setdefault(name, []).append(items[seq])
    return found


def _about(
    database: Database,
    tenant_id: TenantId,
    about: tuple[str, str],
    others: list[sa.ColumnElement[bool]],
    after: FeedbackId | None,
    limit: int,
) -> Page[Feedback]:
    """A page of what is said of one answer or adapter, in as many steps as the others ask for."""
    owner = {"tenant_id": tenant_id}
    seq, column = feedback_targets.c.feedback_seq, feedback_targets.c[about[0]]
    of_these = sa.select(seq, column).distinct().where(only(column, about[1]))
    said = of_these.order_by(column.desc(), seq.desc())
    at_once = _AT_ONCE if others else limit + 1
    found: list[sa.RowMapping] = []
    with database.read() as connection:
        last = place(connection, feedback, owner, (feedback.c.seq,), after, limit, "feedback")
        step = said if last is None else said.where(seq < last[0])
        while len(found) <= limit:
            seqs = connection.scalars(step.limit(at_once)).all()
            these = sa.select(feedback).where(
                feedback.c.seq.in_(seqs), aside(feedback.c.tenant_id) == tenant_id, *others
            )
            rows = connection.execute(these).mappings().all() if seqs else []
            found += sorted(rows, key=lambda row: row["seq"], reverse=True)
            if len(seqs) < at_once:
                break
            step = said.where(seq < seqs[-1])
    return page_of(found, _read, limit)


def _also(name: str, value: str) -> sa.ColumnElement[bool]:
    """A filter beside the one that a query begins with."""
    if name not in _OF_ANSWERS:
        return aside(feedback.c[name]) == value
    target = feedback_targets.c
    return sa.exists().where(target.feedback_seq == feedback.c.seq, aside(target[name]) == value)


def _rarest(database: Database, tenant_id: TenantId, asked: Mapping[str, str]) -> str | None:
    """The filter that leaves least; those that leave a thousand or more are alike."""
    if len(asked) < 2:
        return next(iter(asked), None)

    def left(name: str) -> int:
        if name in _OF_ANSWERS:
            some = sa.select(feedback_targets.c.seq).where(feedback_targets.c[name] == asked[name])
        else:
            mine = feedback.c.tenant_id == tenant_id
            some = sa.select(feedback.c.seq).where(mine, feedback.c[name] == asked[name])
        few = some.limit(_FEW).subquery()
        return int(database.scalar(sa.select(sa.func.count()).select_from(few)))

    return min(asked, key=left)
