"""vLLM 0.32's LoRA wrapper for GPUs, which bounds what leaves each layer for watched adapters.

Owns the limits and flags on the device, one for each slot. Nothing waits for the device in a step:
the flags are read when an answer asks (`note_all`) and before slots change hands. Bounding is one
opaque operation, so that compiled and captured graphs hold it for whatever adapters come.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU

from server.vllm.bounds.rule import limit
from server.vllm.bounds.watch import watch

_wrappers: weakref.WeakSet[BoundedGpuWrapper] = weakref.WeakSet()


class SlotBounds:
    """The limit of each slot and whether it was exceeded, on the device; row 0: no adapter."""

    def __init__(self, slots: int, device: torch.device | str) -> None:
        self.limits = torch.full((slots + 1,), float("inf"), device=device)
        self.exceeded = torch.zeros(slots + 1, dtype=torch.int32, device=device)
        self._engine_ids: tuple[int | None, ...] = (None,) * slots
        self._watched = False

    def renew(self, engine_ids: list[int | None], dtype: torch.dtype) -> None:
        """These adapters lie in the slots from now on; what was flagged until now is noted."""
        self.note()
        self._engine_ids = tuple(engine_ids)
        watched = [watch.watches(engine_id) for engine_id in self._engine_ids]
        if self._watched or any(watched):
            most = [limit(dtype) if watches else float("inf") for watches in watched]
            self.limits[1 : 1 + len(most)].copy_(torch.tensor(most))
        self._watched = any(watched)

    def note(self) -> None:
        """Tell the watch which adapters were flagged; waits for the device if any is watched."""
        if self._watched:
            flags = self.exceeded[1:].tolist()
            self.exceeded.zero_()
            for engine_id, flag in zip(self._engine_ids, flags, strict=False):
                if flag:
                    watch.saturated(engine_id)


class BoundedGpuWrapper(PunicaWrapperGPU):  # type: ignore[misc]  # vLLM ships no types
    """Adapters as vLLM applies them, then bounded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = SlotBounds(self.max_loras, self.device)
        _wrappers.add(self)

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], *args: Any, **kwargs: Any
    ) -> None:
        """Told of the coming step; vLLM calls this only when mapping or slots changed."""
        super().update_metadata(mapping, lora_index_to_id, *args, **kwargs)
        self._bounds.renew(lora_index_to_id, self.lora_config.lora_dtype)

    def add_expand(self, y: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """The second half of every linear layer, sharded or not."""
        super().add_expand(y, *args, **kwargs)
        self._bound(y, self._token_lora_indices)

    def add_lora_embedding(self, y: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """The embedding of the prompt's and of the last tokens."""
        super().add_lora_embedding(y, *args, **kwargs)
        self._bound(y, self._token_lora_indices)

    def add_lora_logits(self, y: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """The logits of the rows that are sampled."""
        super().add_lora_logits(y, *args, **kwargs)
        self._bound(y, self._sampler_indices)

    def _bound(self, y: torch.Tensor, slots: torch.Tensor) -> None:
        rows = y.view(-1, y.shape[-1])
        limits, exceeded = self._bounds.limits, self._bounds.exceeded
        torch.ops.attune.bound_rows(rows, slots[: rows.shape[0]], limits, exceeded)


def note_all() -> None:
    """Note what the devices of this worker have flagged."""
    for wrapper in _wrappers:
        wrapper._bounds.note()


@torch.library.custom_op("attune::bound_rows", mutates_args={"y", "exceeded"})  # type: ignore[untyped-decorator]
def bound_rows(
    y: torch.Tensor, slots: torch.Tensor, limits: torch.Tensor, exceeded: torch.Tensor
) -> None:
    """Bound each row of y [rows, outputs] by its slot's limit (-1: no adapter), and flag the slot.

    A row of numbers within the limit, and every row without a finite limit, keeps its bits.
    """
    row_slots = slots.long() + 1
    row_limits = limits[row_slots].unsqueeze(1)
    outside = ~(y.abs() <= row_limits) & row_limits.isfinite()  # NaN is within nothing
    most = row_limits.to(y.dtype)
    y.copy_(torch.where(outside, y.nan_to_num(nan=0.0).clamp(-most, most), y))
    exceeded.index_add_(0, row_slots, outside.any(1).to(exceeded.dtype))


@bound_rows.register_fake  # type: ignore[untyped-decorator]
def _bound_rows_fake(
    y: torch.Tensor, slots: torch.Tensor, limits: torch.Tensor, exceeded: torch.Tensor
) -> None:
    return None
