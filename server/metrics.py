"""Attune's Prometheus metrics; they appear on vLLM's own /metrics page beside vLLM's."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter("attune_answers", "Answers by tenant and outcome", ["tenant", "outcome"])
FEEDBACK = Counter("attune_feedback", "Feedback items received by kind", ["kind"])
COMMIT_WAITING = Gauge("attune_interactions_waiting", "Answers waiting for their commit")
COMMIT_SECONDS = Histogram(
    "attune_commit_seconds",
    "Time from an answer's end to its durable commit",
    buckets=(0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2, 5),
)
RUNS = Gauge("attune_runs", "Training runs by state", ["state"])
VERDICTS = Gauge("attune_gate_verdicts", "Gate verdicts of finished runs", ["verdict"])
EXPORTS = Gauge("attune_exports", "Exports for devices by state", ["state"])
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
FEEDBACK_TO_SERVED_SECONDS = Histogram(
    "attune_feedback_to_served_seconds",
    "Time from the newest feedback a version learned from to its first answer",
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 14400, 86400),
)
REFUSED = Counter("attune_requests_refused", "Requests refused by error code", ["code"])
SYNC_ERRORS = Counter("attune_sync_errors", "Failed looks at the registry")
