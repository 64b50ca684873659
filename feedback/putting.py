"""Feedback written to SQL: many items in one transaction, each refused or taken by itself.

Owns when a statement is new, the same, or another under the same id. Reading it back is the
store's; whether a completion id was issued to the tenant is the server's to check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import msgspec
import sqlalchemy as sa

from core.database import Database, row_of
from core.errors import AttuneError, Conflict
from core.ids import FeedbackId, TenantId
from core.text import json_text
from feedback.tables import feedback
from feedback.targets import Answers, known_answers, lock_tenants, require_own, write_targets
from feedback.types import Change, Feedback

Stored: TypeAlias = tuple[Feedback, Change]
"""An item as it is stored, and what that changed."""


@dataclass(frozen=True, slots=True)
class Said:
    """An item to store.

    With `newest_wins` one that was said earlier than the stored one of its id changes nothing, and
    an id under which another answer is judged is refused: whoever chose it could not know of the
    other. With `own_only` an id under which somebody else gave something is refused.
    """

    item: Feedback
    newest_wins: bool = False
    own_only: bool = False


PutAll: TypeAlias = Callable[[Sequence[Said]], Sequence[Stored | AttuneError]]
"""Stores items; one outcome for each, in their order, an error for one that is refused."""

_Key: TypeAlias = tuple[TenantId, FeedbackId]
_Round: TypeAlias = Mapping[_Key, tuple[int, Said]]
_Kept: TypeAlias = dict[_Key, tuple[int, Feedback]]

# Each key by itself: for a list of pairs either database reads all of a tenant's, or the table.
_NUMBERS = {
    "sqlite": sa.text(
        "SELECT (SELECT seq FROM feedback WHERE tenant_id = json_extract(said.value, '$[0]') "
        "AND id = json_extract(said.value, '$[1]')) FROM json_each(:keys) AS said"
    ),
    "postgresql": sa.text(
        "SELECT (SELECT seq FROM feedback WHERE tenant_id = said.value ->> 0 "
        "AND id = said.value ->> 1) FROM json_array_elements(CAST(:keys AS json)) AS said"
    ),
}


def put_all(database: Database, said: Sequence[Said]) -> list[Stored | AttuneError]:
    """Store items in one transaction, durable on return, in their order.

    The same statement under the same id changes nothing. Another statement under the id takes its
    place, keeps `created_at_s` and is news to the trainer again. Refused alone, before anything is
    written of it: NotFound for an answer of another tenant, Conflict as `Said` tells.
    """
    outcomes: dict[int, Stored | AttuneError] = {}
    with database.write() as connection:
        lock_tenants(connection, [one.item.tenant_id for one in said])
        answers = known_answers(connection, [a for one in said for a in one.item.completion_ids])
        for together in _rounds(said):
            outcomes |= _put_round(connection, together, answers)
    return [outcomes[at] for at in range(len(said))]


def _rounds(said: Sequence[Said]) -> Iterator[_Round]:
    """The items with their places, in order, no id twice in a round: it may follow on itself."""
    together: dict[_Key, tuple[int, Said]] = {}
    for at, one in enumerate(said):
        key = _key(one.item)
        if key in together:
            yield together
            together = {}
        together[key] = (at, one)
    if together:
        yield together


def _put_round(
    connection: sa.Connection, together: _Round, answers: Answers
) -> dict[int, Stored | AttuneError]:
    old = _kept(connection, list(together))
    outcomes: dict[int, Stored | AttuneError] = {}
    changed: dict[_Key, tuple[int, Change]] = {}
    new: list[dict[str, Any]] = []
    for key, (at, one) in together.items():
        known = old[key][1] if key in old else None
        try:
            stays = _stays(one, known)
            require_own(one.item.tenant_id, one.item.completion_ids, answers)
        except AttuneError as error:
            outcomes[at] = error
            continue
        if stays is not None:
            outcomes[at] = (stays, "unchanged")
            continue
        row = {**_row(one.item), "updated_at_s": one.item.said_at_s}
        if known is None:
            changed[key] = (at, "created")
            first = {"created_at_s": one.item.created_at_s, "given_by": one.item.given_by}
            new.append({**row, **first})
        else:
            changed[key] = (at, "updated")
            connection.execute(feedback.update().where(feedback.c.seq == old[key][0]).values(row))
    if new:
        connection.execute(feedback.insert(), new)
    if changed:
        kept = _kept(connection, list(changed))
        write_targets(
            connection,
            {kept[key][0]: together[key][1].item.completion_ids for key in changed},
            answers,
            replace=[kept[key][0] for key, (_, change) in changed.items() if change == "updated"],
        )
        outcomes |= {at: (kept[key][1], change) for key, (at, change) in changed.items()}
    return outcomes


def _stays(one: Said, known: Feedback | None) -> Feedback | None:
    """The stored item if it stays as it is."""
    if known is None:
        return None
    if one.own_only and known.given_by != one.item.given_by:
        raise Conflict(
            f"Feedback '{one.item.id}' was given with another key. Choose another id; only a key "
            "with the scope 'feedback' changes what others gave.",
            param="id",
        )
    if one.newest_wins and known.completion_id != one.item.completion_id:
        raise Conflict(
            f"Feedback '{one.item.id}' is about another answer already. Give each its own id.",
            param="id",
        )
    late = one.newest_wins and known.said_at_s > one.item.said_at_s
    return known if late or _same_statement(known, one.item) else None


def _kept(connection: sa.Connection, keys: Sequence[_Key]) -> _Kept:
    numbers = connection.scalars(_NUMBERS[connection.dialect.name], {"keys": json_text(keys)})
    known = [number for number in numbers if number is not None]
    if not known:
        return {}
    rows = connection.execute(sa.select(feedback).where(feedback.c.seq.in_(known))).mappings()
    items = [(row["seq"], msgspec.convert(row, Feedback)) for row in rows]
    return {_key(item): (seq, item) for seq, item in items}


def _key(item: Feedback) -> _Key:
    return item.tenant_id, item.id


def _row(item: Feedback) -> dict[str, Any]:
    """The row of what an item says: less `seq`, the times, and who gave it first."""
    said = [name for name in item.__slots__ if name != "given_by" and not name.endswith("_at_s")]
    values: dict[str, Any] = {name: getattr(item, name) for name in said}
    if isinstance(item.value, int | float) and not isinstance(item.value, bool):
        values["value"] = float(item.value)
    if item.comparison is not None:
        values["comparison"] = asdict(item.comparison)
    return row_of(feedback, {**values, "kind": item.kind})


def _same_statement(left: Feedback, right: Feedback) -> bool:
    """Whether two items say the same, whenever they say it; unlike `==` it tells True from 1."""
    texts = [json.dumps(_row(item), sort_keys=True) for item in (left, right)]
    return texts[0] == texts[1]
