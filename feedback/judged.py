"""What was said together with the answers it judges, read in small parts by number.

Every query asks one table for rows by a unique key, so that there is nothing for a planner to
choose. Must not know what is learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from core.database import Database
from core.ids import AdapterId
from core.queries import among, listed, only
from feedback.tables import feedback, feedback_targets, interactions
from feedback.types import Comparison, Feedback, Interaction

_AT_ONCE = 200
"""A prompt can be as long as a request: a part must fit in memory whatever was sent."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A feedback item and the completed answers of its tenant that it speaks of.

    `awaited`: an answer it speaks of is not logged yet, so that the same item may say more later.
    """

    seq: int
    item: Feedback
    answers: tuple[Interaction, ...]
    awaited: bool = False


def said_of(database: Database, adapter_id: AdapterId, newest: int) -> dict[int, int]:
    """News number -> item number of the `newest` things the adapter can learn from."""
    target = feedback_targets.c
    query = (
        sa.select(target.seq, target.feedback_seq)
        .where(only(target.adapter_id, adapter_id), target.seq > 0)  # all are: names the index
        .order_by(target.adapter_id.desc(), target.seq.desc())
        .limit(newest)
    )
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def read_judged(database: Database, seqs: Sequence[int]) -> Iterator[Judged]:
    """The items of these numbers that are still there, a few hundred in memory at once."""
    for start in range(0, len(seqs), _AT_ONCE):
        with database.read() as connection:
            part = list(_read_some(connection, seqs[start : start + _AT_ONCE]))
        yield from part


def _read_some(connection: sa.Connection, seqs: Sequence[int]) -> Iterator[Judged]:
    about: dict[int, list[str]] = {}
    for seq, completion_id in connection.execute(_TARGETS, {"seqs": seqs}).all():
        about.setdefault(seq, []).append(completion_id)
    named = {name for names in about.values() for name in names}
    rows = connection.execute(_ANSWERS, {"ids": list(named)}).all()
    answers = {row[0]: _answer(row) for row in rows}
    for seq, *values in connection.execute(_ITEMS, {"seqs": seqs}).all():
        item = _item(values)
        spoken_of = about.get(seq, [])
        logged = [answers[name] for name in spoken_of if name in answers]
        mine = (
            answer
            for answer in logged
            if answer.tenant_id == item.tenant_id and answer.outcome == "completed"
        )
        yield Judged(seq, item, tuple(mine), len(logged) < len(spoken_of))


# Made by hand, in the order of their fields: to check what the database holds takes as long as
# all the rest. What is not read is as if there were none.
def _answer(row: Sequence[Any]) -> Interaction:
    *first, sampling, response, prompt_tokens, completion_tokens, tokens = row
    told: dict[str, Any] = {"sampling": sampling or {}, "response": response, "tokens": tokens}
    told |= {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return Interaction(*first, **told)


def _item(row: Sequence[Any]) -> Feedback:
    *first, comparison, source_kind, source_id, end_user, updated_at_s = row
    compared = None if comparison is None else msgspec.convert(comparison, Comparison)
    values: list[Any] = [*first, compared, source_kind, source_id, end_user]
    told: dict[str, Any] = {"updated_at_s": updated_at_s}
    return Feedback(*values, **told)


_TARGETS = sa.select(feedback_targets.c.feedback_seq, feedback_targets.c.completion_id).where(
    among(feedback_targets.c.feedback_seq, listed("seqs", sa.BigInteger()))
)
_ITEMS = sa.select(
    feedback.c.seq,
    *(feedback.c[name] for name in Feedback.__slots__[:13]),  # to the end user
    feedback.c.updated_at_s,
).where(among(feedback.c.seq, listed("seqs", sa.BigInteger())))
_ANSWERS = sa.select(
    *(interactions.c[name] for name in Interaction.__slots__[:14]),  # to the end user
    sa.case((interactions.c.tokens.is_(None), interactions.c.sampling), else_=sa.null()),
    interactions.c.response,
    interactions.c.prompt_tokens,
    interactions.c.completion_tokens,
    interactions.c.tokens,
).where(among(interactions.c.id, listed("ids", sa.Text())))
