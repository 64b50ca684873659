"""Answered requests looked back on: a page of those that are as wanted, newest first.

Owns which index a page is read by, and that no page costs more than its bounds, whatever is asked
for and however much there is. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from core.database import Database
from core.ids import AdapterId, CompletionId, TenantId
from core.names import one_spelling
from core.page import Page, place
from core.queries import among, aside, listed, only
from feedback.tables import feedback, feedback_targets, interactions
from feedback.types import Interaction, Outcome

LOOKED_AT = 10_000
"""Answers that one page looks at, at most; a page that finds too few among them is a short one."""

MOST_CHARS = 8_000_000
"""Of what is shown on a page, but for its first answer: each may be as long as a request."""

_AT_ONCE = 500
_FEW = 1000
_NEWEST = (interactions.c.created_at_s, interactions.c.seq)
_SHOWN = [column for column in interactions.c if column.name != "document"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answers; None: any. Times in seconds since the epoch, from `since_s` to before
    `until_s`. `judged`: whether any feedback speaks of it."""

    adapter_id: AdapterId | None = None
    outcome: Outcome | None = None
    endpoint: str | None = None
    model_answered: str | None = None
    end_user: str | None = None
    domain: str | None = None
    conversation_id: str | None = None
    since_s: float | None = None
    until_s: float | None = None
    judged: bool | None = None

    def equal(self) -> dict[str, str]:
        """The columns that must have a value, each of which an index begins with."""
        named = {
            "adapter_id": self.adapter_id,
            "outcome": self.outcome,
            "endpoint": self.endpoint,
            "model_answered": self.model_answered,
            "end_user": one_spelling(self.end_user),
            "domain": one_spelling(self.domain),
            "conversation_id": one_spelling(self.conversation_id),
        }
        return {name: value for name, value in named.items() if value is not None}


ANY = Wanted()


def one_of(tenant_id: TenantId, completion_id: CompletionId) -> sa.Select[Any]:
    """The tenant's answer of that id, less its document."""
    mine = aside(interactions.c.tenant_id) == tenant_id
    return sa.select(*_SHOWN).where(interactions.c.id == completion_id, mine)


def read_history(
    database: Database,
    tenant_id: TenantId,
    wanted: Wanted,
    *,
    after: CompletionId | None,
    limit: int,
) -> Page[Interaction]:
    """The tenant's answers that are as `wanted`, those asked last first, what follows `after`.

    A page may be short, even empty, though more follow; it says after what to continue. Raises
    Invalid for a limit outside 1 to 200, NotFound for an unknown cursor.
    """
    asked = wanted.equal()
    with database.read() as connection:
        owner = {"tenant_id": tenant_id}
        begin = place(connection, interactions, owner, _NEWEST, after, limit, "interaction")
        told = _told_of(connection, tenant_id) if wanted.judged else None
        first = None if told is not None else _rarest(connection, tenant_id, asked)
        others = [aside(interactions.c[name]) == asked[name] for name in asked if name != first]
        if wanted.judged is not None:
            others.append(_JUDGED if wanted.judged else ~_JUDGED)
        walk = _by_name(told, tenant_id) if told is not None else _by(tenant_id, first, asked)
        walk = _between(walk, wanted)
        seqs, cursor, more = _found(connection, walk, others, begin, limit)
        query = sa.select(*_SHOWN).where(interactions.c.seq.in_(seqs))
        rows = connection.execute(query.order_by(*_descending())).mappings().all()
    items = tuple(msgspec.convert(row, Interaction) for row in rows)
    return Page(items, more, cursor if more else None)


def _found(
    connection: sa.Connection,
    walk: sa.Select[Any],
    others: Sequence[sa.ColumnElement[bool]],
    begin: Sequence[Any] | None,
    limit: int,
) -> tuple[list[int], str | None, bool]:
    """The numbers of a page's answers, the id to continue after, and whether more may follow."""
    found: list[sa.Row[Any, Any, Any]] = []
    at_once = _AT_ONCE if others else limit + 1
    last, more = "", True
    for _ in range(LOOKED_AT // _AT_ONCE):
        step = walk if begin is None else walk.where(sa.tuple_(*_NEWEST) < sa.tuple_(*begin))
        rows = connection.execute(step.limit(at_once)).all()
        these = _WEIGHED.where(interactions.c.seq.in_([row.seq for row in rows]), *others)
        some = these.order_by(*_descending()).limit(limit + 1 - len(found))
        found += connection.execute(some).all()
        if len(found) > limit:
            break
        if len(rows) < at_once:
            more = False
            break
        *begin, last = rows[-1]
    kept = _fitting(found[:limit])
    seqs = [row.seq for row in kept]
    if len(kept) < len(found):
        return seqs, kept[-1].id, True
    return seqs, last if more else None, more


def _fitting(found: Sequence[sa.Row[Any, Any, Any]]) -> Sequence[sa.Row[Any, Any, Any]]:
    """As many of them as a page may hold, at least one."""
    chars = 0
    for number, row in enumerate(found):
        chars += row.chars
        if number and chars > MOST_CHARS:
            return found[:number]
    return found


def _by(tenant_id: TenantId, first: str | None, asked: Mapping[str, str]) -> sa.Select[Any]:
    """All there are in order, by the index that begins with the tenant and the filter `first`."""
    tenant = interactions.c.tenant_id
    walk = _PLACES.where(only(tenant, tenant_id)).order_by(tenant.desc(), *_descending())
    return walk if first is None else walk.where(interactions.c[first] == asked[first])


def _by_name(names: Iterable[str], tenant_id: TenantId) -> sa.Select[Any]:
    """The answers of these ids in order."""
    these = among(interactions.c.id, listed("names", sa.Text()))
    mine = aside(interactions.c.tenant_id) == tenant_id
    query = _PLACES.where(these, mine).order_by(*_descending())
    return query.params(names=list(names))


def _between(walk: sa.Select[Any], wanted: Wanted) -> sa.Select[Any]:
    if wanted.since_s is not None:
        walk = walk.where(interactions.c.created_at_s >= wanted.since_s)
    if wanted.until_s is not None:
        walk = walk.where(interactions.c.created_at_s < wanted.until_s)
    return walk


def _told_of(connection: sa.Connection, tenant_id: TenantId) -> list[str] | None:
    """The answers that feedback of the tenant speaks of; None: there are not just a few."""
    items = sa.select(feedback.c.seq).where(feedback.c.tenant_id == tenant_id).limit(_FEW + 1)
    seqs = connection.scalars(items).all()
    if len(seqs) > _FEW:
        return None
    about = sa.select(feedback_targets.c.completion_id).limit(_FEW + 1)
    names = connection.scalars(about.where(feedback_targets.c.feedback_seq.in_(seqs))).all()
    return None if len(names) > _FEW else sorted(set(names))


def _rarest(connection: sa.Connection, tenant_id: TenantId, asked: Mapping[str, str]) -> str | None:
    """The filter that leaves least; those that leave a thousand or more are alike."""
    if len(asked) < 2:
        return next(iter(asked), None)
    columns = interactions.c

    def left(name: str) -> int:
        mine = columns.tenant_id == tenant_id
        some = sa.select(columns.seq).where(mine, columns[name] == asked[name])
        few = some.limit(_FEW).subquery()
        return connection.scalar(sa.select(sa.func.count()).select_from(few)) or 0

    return min(asked, key=left)


def _descending() -> Iterable[sa.ColumnElement[Any]]:
    return (column.desc() for column in _NEWEST)


_JUDGED = sa.exists().where(feedback_targets.c.completion_id == interactions.c.id)
_PLACES = sa.select(*_NEWEST, interactions.c.id)
_LONG = ("prompt", "answers", "request", "choices")
_CHARS = sum(
    (sa.func.length(sa.cast(interactions.c[name], sa.Text)) for name in _LONG),
    2 * sa.func.coalesce(sa.func.length(interactions.c.tokens), 0),
)
_WEIGHED = sa.select(interactions.c.seq, interactions.c.id, _CHARS.label("chars"))
