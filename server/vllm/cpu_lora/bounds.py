"""Keeps the rows of watched adapters within their bounds, by the plan of a step.

Other rows are read at most, never written.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

import torch

from server.vllm.bounds.rule import bounded, limit
from server.vllm.cpu_lora.plan import Group, Plan


def watched_part(plan: Plan, watched: Set[int]) -> Plan:
    """The groups in which a watched slot has tokens."""
    return tuple(g for g in plan if not watched.isdisjoint(range(g.low, g.high)))


def bound_rows(y: torch.Tensor, plan: Plan, watched: Set[int]) -> Iterator[int]:
    """Bound the watched slots' rows of y [tokens, outputs]; yields each slot that needed it."""
    most = limit(y.dtype)
    for group in plan:
        low, high = _rows(y, group).aminmax()
        if -most <= float(low) and float(high) <= most:
            continue
        for slot, tokens in group.by_slot():
            own = y.index_select(0, tokens)
            if slot in watched and not bool((own.abs() <= most).all()):
                y.index_copy_(0, tokens, bounded(own))
                yield slot


def _rows(y: torch.Tensor, group: Group) -> torch.Tensor:
    if group.tokens is None:
        return y[group.start : group.stop]
    return y.index_select(0, group.tokens)
