"""What a trainer last saw of an adapter's feedback, for servers that are asked about it.

A server asks, a trainer answers when it looks next: counting takes what only the trainer
remembers. One row an adapter that was ever asked about. Must not know what makes a run due.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import msgspec
import sqlalchemy as sa

from core.clock import now_s
from core.database import Database, insert_ignoring_duplicates
from core.ids import AdapterId
from core.text import json_value
from feedback.learning.due import Known
from feedback.tables import looks

_PATIENCE_S = 1.0
_AT_ONCE = 1000
"""Questions read at once: the next are read when some of these are answered."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How much the last judged candidate moved towards liked answers, in nats, and how sure.

    `low` to `high` is the 95 % interval, `n` the effective held-out items it rests on.
    `more_judgements`: about how many are missing until such an effect is proven; None: no number
    would prove it.
    """

    mean: float
    low: float
    high: float
    n: int
    more_judgements: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at `at_s`, in all that was said up to the news number `last_seq`.

    `left_out` counts items by reason, as a snapshot of that moment would.
    """

    at_s: float
    last_seq: int
    known: Known
    left_out: Mapping[str, int]
    effect: Effect | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The newest look at an adapter, if any, and the newest question that it answers."""

    look: Look | None
    answered_s: float


class Looks:
    """Questions of servers and answers of trainers. Safe to use from several processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, adapter_id: AdapterId) -> Asked:
        """What was seen of an adapter last."""
        query = sa.select(looks.c.look, looks.c.answered_s).where(looks.c.adapter_id == adapter_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.look is None:
            return Asked(None, 0.0)
        return Asked(msgspec.convert(json_value(row.look), Look), row.answered_s)

    def ask(self, adapter_id: AdapterId) -> float:
        """Have a trainer look at an adapter anew; the question's number, in seconds.

        Raises Unavailable after a second: there is an older look to show.
        """
        asked_s = now_s()
        new = {"adapter_id": adapter_id, "waiting_s": asked_s, "answered_s": 0.0}
        again = looks.update().where(looks.c.adapter_id == adapter_id).values(waiting_s=asked_s)
        with self._database.write(wait_s=_PATIENCE_S) as connection:
            if connection.execute(again).rowcount == 0:
                insert_ignoring_duplicates(connection, looks, [new])
        return asked_s

    def waiting(self) -> dict[AdapterId, float]:
        """The adapters asked about, each with the newest question, those longest waiting first."""
        query = (
            sa.select(looks.c.adapter_id, looks.c.waiting_s)
            .where(looks.c.waiting_s > 0)
            .order_by(looks.c.waiting_s)
            .limit(_AT_ONCE)
        )
        with self._database.read() as connection:
            return {AdapterId(row[0]): row[1] for row in connection.execute(query)}

    def answer(self, adapter_id: AdapterId, asked_s: float, look: Look) -> None:
        """What was seen, begun after the question `asked_s`; a later one goes on waiting."""
        still = sa.case((looks.c.waiting_s > asked_s, looks.c.waiting_s), else_=sa.null())
        values = {
            "waiting_s": still,
            "answered_s": asked_s,
            "look": msgspec.json.encode(asdict(look)).decode(),
        }
        with self._database.write() as connection:
            mine = looks.c.adapter_id == adapter_id
            connection.execute(looks.update().where(mine).values(values))
