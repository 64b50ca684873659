"""How large a LoRA layer's output may be, and which adapters cannot exceed that: plain arithmetic.

Why bounded outputs keep everything finite says DECISIONS.md ("Absurd weights"). Knows torch, not
vLLM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

_LIMITS = {torch.float16: 2.0**15}
"""Half of what float16 holds: a rotary embedding can make two numbers of that size one."""

_LIMIT = 1e12
"""float32 and bfloat16: squared, and summed over any layer, far below their 3.4e38."""

SMALL_GAIN = 1e6
"""An adapter whose layers multiply by no more than this needs no watching; a trained one's by
1 to 100."""


def limit(dtype: torch.dtype) -> float:
    """The largest absolute value a layer may put out for a row of a watched adapter."""
    return _LIMITS.get(dtype, _LIMIT)


def gain(a: torch.Tensor, b: torch.Tensor, scaling: float) -> float:
    """At least the factor by which A, B * scaling or both together can multiply what enters.

    Either alone counts too: what A makes must be finite before a tiny B can make it small again.
    NaN or infinite where it cannot be told. `a` is [.., rank, inputs], `b` [.., outputs, rank].
    """
    inputs, rank = int(a.shape[-1]), int(a.shape[-2])
    first, second = inputs * _largest(a), rank * _largest(b) * abs(scaling)
    return max(first, second, first * second, key=lambda factor: (math.isnan(factor), factor))


def needs_watching(gains: Iterable[float], dtype: torch.dtype) -> bool:
    """Whether an adapter of these layers could put out more than is known to stay finite.

    In float16 the base model alone comes near the end of the range, so there every adapter could.
    """
    return dtype is torch.float16 or not all(each <= SMALL_GAIN for each in gains)


def bounded(rows: torch.Tensor) -> torch.Tensor:
    """`rows` within the limit of their dtype, what is no number as 0."""
    most = limit(rows.dtype)
    return rows.nan_to_num(nan=0.0, posinf=most, neginf=-most).clamp(-most, most)


def _largest(weights: torch.Tensor) -> float:
    low, high = weights.aminmax()
    return max(-float(low), float(high))
