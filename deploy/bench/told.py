"""A tenant that has given many thumbs, put into a database at once, without a server.

Owns what its users ask and how they rate. Rows are inserted in bulk, as the stores would have
written them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from adapters.registry import Registry
from adapters.types import Adapter, Learning
from core.clock import now_s
from core.database import Database, row_of
from core.identity.tenants import TenantStore
from core.ids import CompletionId, FeedbackId, TenantId
from feedback.interactions import InteractionStore
from feedback.served import Served, ServedChoice, pack
from feedback.tables import feedback, feedback_targets
from feedback.types import Feedback, Interaction

_AT_ONCE = 2_000
_PER_USER = 50
_PER_PROMPT = 4
NEVER = Learning(new_items=2**31, max_age_s=1e12)
"""Learning whose triggers are looked at and never open a run."""


def tell(database: Database, thumbs: int, learning: Learning = NEVER) -> Adapter:
    """A new tenant with one adapter and so many thumbs on its answers, a quarter of them down."""
    tenant = TenantStore(database).create("growth").id
    adapter = Registry(database).create(tenant, "support", learning=learning)
    answers = InteractionStore(database)
    for start in range(0, thumbs, _AT_ONCE):
        numbers = range(start, min(thumbs, start + _AT_ONCE))
        answers.append([answer(adapter, number) for number in numbers])
        _rate(database, adapter, numbers)
    return adapter


def answer(adapter: Adapter, number: int) -> Interaction:
    """The answer of that number; every fourth is to a new question. Its token ids are made up."""
    asked = number // _PER_PROMPT
    question = f"Question {asked}: which way is it from the market to the harbour, "
    prompt_ids = (asked % 1_000, asked // 1_000, *range(58))
    sampled = ServedChoice(0, (number % 1_000, number // 1_000, *range(38)), "stop")
    return Interaction(
        id=CompletionId(f"chatcmpl-{number:024d}"),
        tenant_id=adapter.tenant_id,
        endpoint="chat.completions",
        created_at_s=now_s(),
        outcome="completed",
        model_requested=adapter.name,
        model_answered="base",
        adapter_id=adapter.id,
        version=None,
        explored=False,
        prompt=({"role": "user", "content": question + "and how long does it take on foot?" * 4},),
        answers=(f"Answer {number}: along the river, past the old mill; " + "ten minutes. " * 6,),
        finish_reason="stop",
        end_user=f"user {number // _PER_USER}",
        prompt_tokens=60,
        completion_tokens=40,
        tokens=pack(Served((prompt_ids,), (sampled,))),
    )


def thumb(tenant_id: TenantId, number: int) -> Feedback:
    """What its user says of the answer of that number."""
    return Feedback(
        id=FeedbackId(f"fb-{number:024d}"),
        tenant_id=tenant_id,
        created_at_s=now_s(),
        completion_id=CompletionId(f"chatcmpl-{number:024d}"),
        value=number % 4 > 0,
        end_user=f"user {number // _PER_USER}",
    )


def _rate(database: Database, adapter: Adapter, numbers: range) -> None:
    items = [replace(thumb(adapter.tenant_id, n), updated_at_s=now_s()) for n in numbers]
    with database.write() as connection:
        connection.execute(feedback.insert(), list(_rows(items)))
        stored = connection.execute(
            feedback.select()
            .with_only_columns(feedback.c.seq, feedback.c.completion_id)
            .order_by(feedback.c.seq.desc())
            .limit(len(items))
        )
        targets = [
            {"feedback_seq": seq, "completion_id": about, "adapter_id": adapter.id}
            for seq, about in reversed(stored.all())
        ]
        connection.execute(feedback_targets.insert(), targets)


def _rows(items: list[Feedback]) -> Iterator[dict[str, object]]:
    for item in items:
        values = {name: getattr(item, name) for name in Feedback.__slots__}
        yield row_of(feedback, {**values, "kind": item.kind})
