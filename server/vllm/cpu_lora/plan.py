"""How the tokens of one batch are grouped by adapter slot, decided once per step.

Owns the grouping only. It knows nothing of weights, layers or vLLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

# A run of neighbouring tokens of one adapter that is this long is worked on in place: gathering
# and scattering its rows would cost more than the extra call.
RUN_TOKENS = 64

# Neighbouring slots share one batched GEMM while padding them to equal depth wastes at most this
# many rows; one more group costs about as much as these (measured on two AVX2 cores).
WASTE_ROWS = 16

# An empty slot between two others wastes its padding, and the reading of its weights: at least
# this many rows.
EMPTY_SLOT_ROWS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Slots `low..high-1` and their tokens, `depth` rows a slot, in slot order.

    Either `start` says that the rows are the neighbours `start..start+width*depth-1` of the
    batch, or `tokens` [width * depth] names them. Slots with fewer tokens, or none, are padded
    with any of the group's; then `real` are the places in `tokens` that are no padding, and
    `targets` the tokens there: what comes of padding is dropped, so that not even infinite
    weights can leak into another request.
    """

    low: int
    high: int
    depth: int
    start: int
    tokens: torch.Tensor | None
    real: torch.Tensor | None
    targets: torch.Tensor | None

    @property
    def width(self) -> int:
        """How many slots."""
        return self.high - self.low

    @property
    def stop(self) -> int:
        """One past the last row, where `start` is used."""
        return self.start + self.width * self.depth

    def by_slot(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Each slot with its tokens, without padding."""
        for slot in range(self.width):
            at = slice(slot * self.depth, (slot + 1) * self.depth)
            if self.tokens is None:
                yield self.low + slot, torch.arange(self.start + at.start, self.start + at.stop)
            elif self.real is None:
                yield self.low + slot, self.tokens[at]
            else:
                yield self.low + slot, self.tokens[self.real[self.real // self.depth == slot]]


Plan = tuple[Group, ...]


def plan(slots: npt.NDArray[np.int64]) -> Plan:
    """Group the tokens of a batch; `slots` [tokens] holds each one's slot, -1 for none."""
    groups: list[Group] = []
    edges = np.flatnonzero(slots[1:] != slots[:-1]) + 1
    starts = np.concatenate(([0], edges))
    lengths = np.diff(np.concatenate((starts, [len(slots)])))
    scattered = slots >= 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        slot = int(slots[start]) if length else -1
        if slot >= 0 and length >= RUN_TOKENS:
            groups.append(Group(slot, slot + 1, length, start, None, None, None))
            scattered[start : start + length] = False
    order = np.flatnonzero(scattered)
    if order.size:
        order = order[np.argsort(slots[order], kind="stable")]
        used, counts = np.unique(slots[order], return_counts=True)
        ends = np.cumsum(counts).tolist()
        for first, last in _ranges(used.tolist(), counts.tolist()):
            begin = ends[first - 1] if first else 0
            rows = order[begin : ends[last - 1]]
            depths = np.zeros(used[last - 1] - used[first] + 1, np.int64)
            depths[used[first:last] - used[first]] = counts[first:last]
            groups.append(_group(int(used[first]), rows, depths))
    return tuple(groups)


def _ranges(used: list[int], counts: list[int]) -> list[tuple[int, int]]:
    """Cut the used slots into ranges with few gaps and little padding: (first, last + 1)."""
    cuts: list[tuple[int, int]] = []
    first, depth = 0, counts[0]
    for i in range(1, len(used)):
        width, gap = used[i - 1] - used[first] + 1, used[i] - used[i - 1] - 1
        deeper = max(depth, counts[i])
        padding = (width + 1) * deeper - width * depth - counts[i]
        if padding + gap * max(deeper, EMPTY_SLOT_ROWS) > WASTE_ROWS:
            cuts.append((first, i))
            first, depth = i, counts[i]
        else:
            depth = deeper
    return [*cuts, (first, len(used))]


def _group(low: int, rows: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Group:
    """The group of the slots from `low` on with `counts` tokens each, which are `rows`."""
    width, depth = len(counts), int(counts.max())
    high = low + width
    if width * depth != rows.size:
        real = np.flatnonzero(np.arange(depth)[None, :] < counts[:, None])
        padded = np.full(width * depth, rows[0])
        padded[real] = rows
        return Group(low, high, depth, -1, *map(torch.from_numpy, (padded, real, rows.copy())))
    if int(rows[-1]) - int(rows[0]) == rows.size - 1 and bool((np.diff(rows) == 1).all()):
        return Group(low, high, depth, int(rows[0]), None, None, None)
    return Group(low, high, depth, -1, torch.from_numpy(rows.copy()), None, None)
