"""GET /v1/adapters/{name}/learning: what an adapter knows, and what is missing until it learns.

Counting what can be learnt takes what the trainer remembers: it is asked, and its last answer
shown. A call reads a row or two, however much was said.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool

from adapters.types import Adapter
from core.bodies import Time, View
from core.clock import now_s
from core.errors import Unavailable
from core.ids import AdapterId
from feedback.learning.due import Missing, missing
from feedback.learning.looks import Look
from feedback.learning.reasons import sentence
from feedback.learning.telling import in_words
from server.routes.adapters import Trainable
from server.routes.common import RuntimeOf, new_router
from server.routes.health import TrainerHealth, trainer_health
from server.runtime import Runtime

router = new_router("adapters")

_FRESH_S = 1.0
_PATIENCE_S = 1.0
"""A trainer looks several times a second; one that reads much anew is answered for later."""
_POLL_S = 0.05
_RUNS = 20


class KnownView(View):
    """What a run would keep, for the adapter's method; `new_items` since the last run."""

    labels_up: int
    labels_down: int
    pairs: int
    new_items: int


class LeftOut(View):
    """Feedback that teaches nothing, counted under one reason, as in a run's snapshot."""

    reason: str
    count: int
    note: str


class MissingView(View):
    """What a run by itself waits for: no `labels`, `up` and `down` missing, or no `pairs`; and no
    `new_items`, which are waited for until `until` at most."""

    labels: int
    up: int
    down: int
    pairs: int
    new_items: int
    until: Time = Field(validation_alias="until_s")


class EffectView(View):
    """What the last judged candidate moved towards liked answers, in nats, with the 95 % interval
    and the effective held-out items. `more_judgements`: about how many until such an effect is
    proven; null: more of the same would prove nothing."""

    mean: float
    low: float
    high: float
    n: int
    more_judgements: int | None


class LearningView(View):
    """What is known of an adapter and what is missing. Counts are as of `as_of`; null: no trainer
    has looked yet. `said_since`: items that came later, counted up to 1,000."""

    object: Literal["adapter.learning"] = "adapter.learning"
    adapter: str
    as_of: Time
    message: str
    known: KnownView | None
    left_out: list[LeftOut]
    said_since: int
    missing: MissingView | None
    effect: EffectView | None
    run: dict[str, Any] | None = Field(description="The run under way.")
    last_run: dict[str, Any] | None = Field(description="The newest run that was judged.")
    trainer: TrainerHealth


@router.get("/v1/adapters/{name}/learning")
async def get_learning(adapter: Trainable, runtime: RuntimeOf) -> LearningView:
    """What the adapter could learn from by now, what is left out and why, and what a run still
    waits for."""
    look = await _newest_look(runtime, adapter.id)
    return await run_in_threadpool(_view, runtime, adapter, look)


async def _newest_look(runtime: Runtime, adapter_id: AdapterId) -> Look | None:
    """A look begun after now, if a trainer answers within the patience; else the last one."""
    found = await run_in_threadpool(runtime.looks.of, adapter_id)
    if now_s() - found.answered_s < _FRESH_S:
        return found.look
    try:
        asked_s = await run_in_threadpool(runtime.looks.ask, adapter_id)
    except Unavailable:  # a database that takes no writes can be read all the same
        return found.look
    patience_s = _PATIENCE_S if runtime.vitals.trainer.status == "ok" else 0.0
    until = time.monotonic() + patience_s
    while found.answered_s < asked_s and time.monotonic() < until:
        await asyncio.sleep(_POLL_S)
        found = await run_in_threadpool(runtime.looks.of, adapter_id)
    return found.look


def _view(runtime: Runtime, adapter: Adapter, look: Look | None) -> LearningView:
    at_s = now_s()
    since = runtime.feedback.count_since(adapter.id, look.last_seq if look else 0)
    lacks = missing(adapter.learning, look.known, at_s) if look else None
    run, judged, error = _runs(runtime, adapter)
    trainer = trainer_health(runtime.vitals.trainer)
    return LearningView.model_validate(
        {
            "adapter": adapter.name,
            "as_of": look.at_s if look else None,
            "message": _message(adapter, lacks, run, trainer, at_s) + error,
            "known": KnownView.of(look.known) if look else None,
            "left_out": _left_out(look) if look else [],
            "said_since": since,
            "missing": MissingView.of(lacks) if lacks else None,
            "effect": EffectView.of(look.effect) if look and look.effect else None,
            "run": run,
            "last_run": judged,
            "trainer": trainer,
        }
    )


def _message(
    adapter: Adapter,
    lacks: Missing | None,
    run: dict[str, Any] | None,
    trainer: TrainerHealth,
    at_s: float,
) -> str:
    if run is not None:
        return f"Run {run['id']} is under way ({run['state']})."
    if trainer.message is not None:
        return trainer.message
    if lacks is None:
        return "A trainer is counting what was said: ask again in a moment."
    return in_words(adapter.learning, lacks, at_s)


def _left_out(look: Look) -> list[LeftOut]:
    most_first = sorted(look.left_out.items(), key=lambda entry: (-entry[1], entry[0]))
    return [
        LeftOut(reason=reason, count=count, note=sentence(reason)) for reason, count in most_first
    ]


def _runs(
    runtime: Runtime, adapter: Adapter
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
    """The run under way and the newest that was judged, as HTTP shows them; why the last failed."""
    kind = runtime.work.get("runs")
    if kind is None:
        return None, None, ""
    found = kind.ledger.list(adapter.tenant_id, {"adapter_id": adapter.id}, limit=_RUNS).items
    shown = [(work.is_active, kind.present(work).model_dump(mode="json")) for work in found]
    active = next((run for is_active, run in shown if is_active), None)
    judged = next((run for _, run in shown if run.get("verdict") is not None), None)
    why = found[0].error if found and found[0].state == "failed" else None
    return active, judged, f" The last run failed: {why[:300]}" if why else ""
