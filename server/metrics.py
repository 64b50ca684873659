"""Attune's Prometheus metrics; they appear on vLLM's own /metrics page beside vLLM's.

However many tenants and adapters there are, the number of series is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from prometheus_client import Counter, Gauge, Histogram

from core.work.kind import Kind
from feedback.types import Interaction
from server.pools import OWN, run_in

logger = logging.getLogger("attune.server")

NAMED = 100
"""Tenants, and adapters, that have series of their own: the first since the server started."""

OTHER = "other"
"""Whoever comes after them, together."""

ANSWERS = Counter("attune_answers", "Answers by tenant and outcome", ["tenant", "outcome"])
ADAPTER_ANSWERS = Counter(
    "attune_adapter_answers", "Answers by adapters' versions", ["tenant", "adapter"]
)
ADAPTER_TOKENS = Counter(
    "attune_adapter_tokens",
    "Tokens read and written by adapters' versions",
    ["tenant", "adapter", "kind"],
)
FEEDBACK = Counter("attune_feedback", "Feedback items received by kind", ["kind"])
COMMIT_WAITING = Gauge("attune_interactions_waiting", "Answers waiting for their commit")
COMMIT_SECONDS = Histogram(
    "attune_commit_seconds",
    "Time from an answer's end to its durable commit",
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2, 5),
)
VERDICTS = Gauge("attune_gate_verdicts", "Gate verdicts of finished runs", ["verdict"])
_VERDICTS = {"succeeded": "promoted", "rejected": "rejected"}
_WORK: dict[str, Gauge] = {}
EDGE_ITEMS = Counter(
    "attune_edge_items", "Offline items devices have sent, by type and status", ["type", "status"]
)
SWAPS = Counter("attune_swaps", "Live versions taken over by this server", ["outcome"])
SWAP_SECONDS = Histogram(
    "attune_swap_seconds",
    "Time from seeing a new live version to serving it",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5),
)
RESIDENT = Gauge("attune_adapters_resident", "Adapters in the engine")
LOADS = Counter("attune_adapter_loads", "Adapter loads by outcome", ["outcome"])
LOAD_SECONDS = Histogram(
    "attune_adapter_load_seconds",
    "Time to bring one adapter into the engine",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5),
)
EVICTIONS = Counter("attune_adapter_evictions", "Adapters freed to make room")
SWAP_STALL_SECONDS = Histogram(
    "attune_swap_stall_seconds",
    "Time the engine took in a new live version, during which it decodes nothing",
    buckets=(0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2),
)
WAITING = Gauge("attune_requests_waiting", "Requests waiting by reason", ["reason"])
WAITED_SECONDS = Histogram(
    "attune_request_wait_seconds",
    "Time requests waited, those that did, by reason",
    ["reason"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120),
)
FEEDBACK_TO_SERVED_SECONDS = Histogram(
    "attune_feedback_to_served_seconds",
    "Time from the newest feedback a version learned from to its first answer",
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 14400, 86400),
)
REFUSED = Counter("attune_requests_refused", "Requests refused by error code", ["code"])
CUT_OFF = Counter("attune_connections_cut_off", "Connections ended by this server", ["reason"])
TRAINER_LAST_SEEN_SECONDS = Gauge(
    "attune_trainer_last_seen_seconds",
    "Time since a trainer last looked for work; NaN: none has been seen",
)
TRAINER_LAST_SEEN_SECONDS.set(float("nan"))
SYNC_ERRORS = Counter("attune_sync_errors", "Failed looks at the registry")


@contextmanager
def waiting(reason: Literal["load", "room", "slot"]) -> Iterator[None]:
    """Count a request as waiting for the length of the block, and the seconds it waited."""
    with WAITING.labels(reason).track_inprogress(), WAITED_SECONDS.labels(reason).time():
        yield


async def keep_current(kinds: Iterable[Kind[Any, Any]], interval_s: float = 5.0) -> None:
    """Set the gauges of durable work for ever, whoever works on it; a database that cannot be
    reached is tried again."""
    while True:
        try:
            for kind in kinds:
                await run_in(OWN, count_work, kind)
        except Exception:
            logger.exception("Cannot count the work.")
        await asyncio.sleep(interval_s)


def count_work(kind: Kind[Any, Any]) -> None:
    """Set the gauge `attune_<plural>` of a kind of work; judged runs are the gate's verdicts."""
    plural, counts = kind.spec.plural, kind.ledger.count_by_state()
    if plural not in _WORK:
        _WORK[plural] = Gauge(f"attune_{plural}", f"{plural.capitalize()} by state", ["state"])
    for state in kind.spec.states:
        _WORK[plural].labels(state).set(counts.get(state, 0))
        if plural == "runs" and state in _VERDICTS:
            VERDICTS.labels(_VERDICTS[state]).set(counts.get(state, 0))


def count_answer(answer: Interaction) -> None:
    """Count one answer that has been recorded."""
    (tenant,) = _label(_TENANTS, answer.tenant_id)
    ANSWERS.labels(tenant, answer.outcome).inc()
    if answer.version is not None:
        whose = _label(_ADAPTERS, answer.tenant_id, answer.model_answered.rpartition("@")[0])
        ADAPTER_ANSWERS.labels(*whose).inc()
        ADAPTER_TOKENS.labels(*whose, "prompt").inc(answer.prompt_tokens or 0)
        ADAPTER_TOKENS.labels(*whose, "completion").inc(answer.completion_tokens or 0)


_TENANTS: set[tuple[str, ...]] = set()
_ADAPTERS: set[tuple[str, ...]] = set()


def _label(named: set[tuple[str, ...]], *name: str) -> tuple[str, ...]:
    """The name itself while there are no more than NAMED of them, OTHER in its place after that."""
    if len(named) < NAMED:
        named.add(name)
    return name if name in named else (OTHER,) * len(name)
