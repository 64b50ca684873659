"""The LoRA weights of one layer, all slots together, laid out for few and large GEMMs.

Owns the layout and the arithmetic y += (x A^T) B^T; must not know vLLM. Everything is float32:
products accumulate exactly enough, and CPUs without bfloat16 units are several times faster so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from server.vllm.cpu_lora.plan import Group, Plan

# Up to this many values a slot, B of all slices is one block-diagonal matrix: one GEMM then beats
# several, though it multiplies zeros. Above it, each slice has a matrix of its own. (Measured with
# 64 tokens of 8 slots: even at 44,032 values, 1.6 times slower at 55,296.)
BLOCK_DIAGONAL_VALUES = 49_152

# Views of the weights by (slots, rank); the combinations in use are few, but not bounded by design.
MAX_VIEWS = 1024

_Views = tuple[torch.Tensor | None, tuple[tuple[int, int, torch.Tensor], ...]]


class SlotWeights:
    """A and B of every slot of a layer with `n` output slices that share their input.

    A is [slots, rank, n, inputs] and B [slots, rank, n, outputs] (or one [slots, rank, outputs]
    per slice), so that the first r ranks of a slot are one block and padding up to the maximal
    rank is never multiplied. `a_views` and `b_views` have vLLM's shapes, [slots, 1, rank, inputs]
    and [slots, 1, outputs, rank], and share this memory: writing to them is how weights arrive.
    """

    def __init__(self, a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> None:
        slots, rank, n = b[0].shape[0], b[0].shape[-1], len(b)
        outputs = [part.shape[-2] for part in b]
        self.rank, self.slices = rank, n
        self._a: torch.Tensor | None = None
        self._b: list[torch.Tensor] = []
        # Tensors born in inference mode could not be written outside it.
        with torch.inference_mode(False), torch.no_grad():
            if a:
                self._a = torch.zeros(slots, rank, n, a[0].shape[-1])
            if n == 1 or rank * n * sum(outputs) <= BLOCK_DIAGONAL_VALUES:
                blocks = torch.zeros(slots, rank, n, sum(outputs))
                self._b = [blocks]
                corners = [sum(outputs[:i]) for i in range(n)]
                self._columns = [(0, sum(outputs))]
                parts = [
                    blocks[:, :, i, c : c + o]
                    for i, (c, o) in enumerate(zip(corners, outputs, strict=True))
                ]
            else:
                parts = [torch.zeros(slots, rank, o) for o in outputs]
                self._b = list(parts)
                self._columns = [(sum(outputs[:i]), o) for i, o in enumerate(outputs)]
            self.a_views = tuple(
                self._a[:, :, i, :].unsqueeze(1) for i in range(n) if self._a is not None
            )
            self.b_views = tuple(part.transpose(1, 2).unsqueeze(1) for part in parts)
            for view, source in zip((*self.a_views, *self.b_views), (*a, *b), strict=True):
                view.copy_(source.reshape(view.shape))
        self._ranks: list[int] = []
        self._ranks_version = -1
        self._views: dict[tuple[int, int, int], _Views] = {}

    def ranks(self) -> list[int]:
        """The true rank of each slot: 0 where the adapter leaves this layer alone.

        Counted from the weights again whenever a write but `rewrite`'s has moved their version.
        """
        source = self._ranked
        if source._version != self._ranks_version:
            self._ranks = self._count(source)
            self._ranks_version = source._version
        return self._ranks

    def rewrite(self, slot: int, write: Callable[[], None]) -> None:
        """Let `write` change this slot and no other: only its rank is counted again."""
        known = self._ranked._version == self._ranks_version
        write()
        if known:
            (self._ranks[slot],) = self._count(self._ranked[slot : slot + 1])
            self._ranks_version = self._ranked._version

    @property
    def _ranked(self) -> torch.Tensor:
        return self._b[0] if self._a is None else self._a

    def _count(self, slots: torch.Tensor) -> list[int]:
        filled = slots.flatten(2).ne(0).any(-1)
        ordinal = torch.arange(1, self.rank + 1)
        ranks: list[int] = (filled * ordinal).amax(1).tolist()
        return ranks

    def add(self, y: torch.Tensor, x: torch.Tensor, plan: Plan, scale: float = 1.0) -> None:
        """Add each token's adapter to its row: y [tokens, outputs], x [tokens, inputs].

        Without A (an embedding), x [tokens, rank] is what A made already.
        """
        ranks = self.ranks()
        for group in plan:
            rank = max(ranks[group.low : group.high])
            if rank:
                self._add_group(y, x, group, rank, scale)

    def _add_group(
        self, y: torch.Tensor, x: torch.Tensor, group: Group, rank: int, scale: float
    ) -> None:
        key = (group.low, group.high, rank)
        views = self._views.get(key)
        if views is None:
            views = self._make_views(*key)
        a, parts = views
        tokens = group.tokens
        rows = x[group.start : group.stop] if tokens is None else x.index_select(0, tokens)
        if rows.dtype is not torch.float32:
            rows = rows.float()
        batched = group.width > 1
        product = torch.bmm if batched else torch.mm
        if batched:
            rows = rows.reshape(group.width, group.depth, rows.shape[-1])
        hidden = rows[..., :rank] if a is None else product(rows, a)
        if scale != 1.0:
            hidden = hidden * scale
        if len(parts) == 1:
            hidden_parts: Sequence[torch.Tensor] = (hidden,)
        else:
            hidden_parts = hidden.unflatten(-1, (rank, self.slices)).movedim(-1, 0).contiguous()
        if tokens is not None:
            products = [product(h, b) for h, (_, _, b) in zip(hidden_parts, parts, strict=True)]
            # Scattering whole rows at once is ten times faster than scattering each slice's.
            delta = products[0] if len(parts) == 1 else torch.cat(products, -1)
            delta = delta.view(-1, delta.shape[-1])
            if group.real is not None:
                delta, tokens = delta.index_select(0, group.real), group.targets
            _columns(y, 0, delta.shape[1]).index_add_(0, tokens, delta[:, : y.shape[1]].to(y.dtype))
            return
        y = y[group.start : group.stop]
        for h, (offset, outputs, b) in zip(hidden_parts, parts, strict=True):
            target = _columns(y, offset, outputs)
            b = b[..., : target.shape[1]]
            if target.dtype is not torch.float32:
                target.add_(product(h, b).view(-1, target.shape[1]))
            elif batched:
                target.unflatten(0, (group.width, group.depth)).baddbmm_(h, b)
            else:
                target.addmm_(h, b)

    def _make_views(self, low: int, high: int, rank: int) -> _Views:
        if len(self._views) >= MAX_VIEWS:
            self._views.clear()
        one = high - low == 1
        a = None
        if self._a is not None:
            a = self._a[low:high, :rank]
            a = a.view(high - low, rank * self.slices, -1).transpose(1, 2)
            a = a[0] if one else a
        parts = []
        for b, (offset, outputs) in zip(self._b, self._columns, strict=True):
            rows = b[low:high, :rank]
            if rows.dim() == 4:
                rows = rows.view(high - low, rank * self.slices, -1)
            parts.append((offset, outputs, rows[0] if one else rows))
        views = self._views[(low, high, rank)] = (a, tuple(parts))
        return views


def _columns(y: torch.Tensor, offset: int, outputs: int) -> torch.Tensor:
    """These columns of y, fewer at its end: logits may be cut shorter than a padded vocabulary."""
    return y if y.shape[1] == outputs else y[:, offset : offset + outputs]
