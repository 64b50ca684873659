"""Which answers a feedback item speaks of, and which adapter may learn from it.

Owns the table `feedback_targets`. Feedback and the answer it judges arrive in either order and
from different processes; whichever comes second completes the row, under a lock per tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from core.errors import NotFound
from core.ids import CompletionId, TenantId
from core.queries import aside
from feedback.tables import feedback, feedback_targets, interactions
from feedback.types import Interaction

# All in one trip, one after another as they stand in the array.
_LOCK, _LOCK_SHARED = (
    sa.text(
        f"SELECT {lock}(:space, hashtext(tenant)) FROM unnest(CAST(:tenants AS text[])) AS tenant"
    )
    for lock in ("pg_advisory_xact_lock", "pg_advisory_xact_lock_shared")
)
_LOCK_SPACE = 0x41545455  # keeps these advisory locks apart from any other use


def lock_tenants(
    connection: sa.Connection, tenants: Iterable[TenantId], *, shared: bool = False
) -> None:
    """Hold the tenants' locks until the transaction ends.

    Writers of feedback take them alone, so that news numbers become visible in their order;
    writers of answers share them. SQLite has one writer at a time and needs none.
    """
    if connection.dialect.name == "sqlite":
        return
    names = sorted(set(tenants))  # one order everywhere: no deadlock
    statement = _LOCK_SHARED if shared else _LOCK
    connection.execute(statement, {"space": _LOCK_SPACE, "tenants": names})


Answers: TypeAlias = Mapping[CompletionId, sa.Row[Any, Any, Any, Any]]
"""What is logged of answers: whose each is, and which adapter can learn from it."""


def known_answers(connection: sa.Connection, completion_ids: Sequence[CompletionId]) -> Answers:
    """Those of the answers that are logged; call with their tenants' locks held."""
    columns = interactions.c
    query = sa.select(columns.id, columns.tenant_id, columns.adapter_id, columns.outcome)
    found = connection.execute(query.where(columns.id.in_(completion_ids)))
    return {answer.id: answer for answer in found}


def require_own(
    tenant_id: TenantId, completion_ids: Sequence[CompletionId], answers: Answers
) -> None:
    """Raises NotFound when one of the answers belongs to another tenant; one that is not logged
    yet is accepted."""
    for name in completion_ids:
        if name in answers and answers[name].tenant_id != tenant_id:
            raise NotFound(
                f"No completion {name!r}; use the id the answer came with.", param="completion_id"
            )


def write_targets(
    connection: sa.Connection,
    spoken_of: Mapping[int, Sequence[CompletionId]],
    answers: Answers,
    *,
    replace: Sequence[int],
) -> None:
    """Write the targets of feedback items by their number; call with their tenants' locks held.

    `replace`: those of them that have targets already.
    """
    if replace:
        known = feedback_targets.c.feedback_seq.in_(replace)
        connection.execute(feedback_targets.delete().where(known))
    learners = {
        name: answer.adapter_id for name, answer in answers.items() if answer.outcome == "completed"
    }
    rows = [
        {"feedback_seq": seq, "completion_id": name, "adapter_id": learners.get(name)}
        for seq, names in spoken_of.items()
        for name in names
    ]
    connection.execute(feedback_targets.insert(), rows)


def release_targets(connection: sa.Connection, completion_id: CompletionId) -> None:
    """Nothing can be learnt of this answer any more; call with the tenant's lock held."""
    connection.execute(
        feedback_targets.update()
        .where(feedback_targets.c.completion_id == completion_id)
        .values(adapter_id=None)
    )


# Built once: every commit of an answer executes it, and building it takes as long.
_WAITING = (
    sa.select(
        feedback_targets.c.seq,
        feedback_targets.c.feedback_seq,
        feedback_targets.c.completion_id,
        feedback.c.tenant_id,
    )
    .join(feedback, feedback.c.seq == feedback_targets.c.feedback_seq)
    .where(
        feedback_targets.c.completion_id.in_(sa.bindparam("completion_ids", expanding=True)),
        aside(feedback_targets.c.adapter_id).is_(None),
    )
    .order_by(feedback_targets.c.seq)
)


def complete_targets(connection: sa.Connection, logged: Sequence[Interaction]) -> None:
    """Tell feedback that came before its answer which adapter the answer is of.

    Call after inserting the answers, in the same transaction. The rows are written anew: only
    now are they news to a trainer.
    """
    learnable = {
        it.id: it for it in logged if it.adapter_id is not None and it.outcome == "completed"
    }
    if not learnable:
        return
    lock_tenants(connection, (it.tenant_id for it in learnable.values()), shared=True)
    waiting = connection.execute(_WAITING, {"completion_ids": list(learnable)}).all()
    for row in waiting:
        answer = learnable[row.completion_id]
        if row.tenant_id != answer.tenant_id:
            continue
        connection.execute(feedback_targets.delete().where(feedback_targets.c.seq == row.seq))
        connection.execute(
            feedback_targets.insert().values(
                feedback_seq=row.feedback_seq,
                completion_id=row.completion_id,
                adapter_id=answer.adapter_id,
            )
        )
