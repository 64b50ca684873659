"""vLLM's LoRA wrapper for CPUs, in place of `PunicaWrapperCPU` of vLLM 0.32.

Owns the translation between vLLM's calls and `SlotWeights`; imported only where vLLM runs.
Upstream gathers one copy of A and B per token and reads the last slot for tokens without an
adapter (`lora/ops/torch_ops/lora_ops.py`, index -1); `tests/integration/vllm/test_cpu_lora.py`
fails when that is mended, and this module can go.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from vllm.lora.layers import BaseLayerWithLoRA
from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA
from vllm.lora.layers.vocab_parallel_embedding import VocabParallelEmbeddingWithLoRA
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from server.vllm.bounds.watch import watch
from server.vllm.cpu_lora.bounds import bound_rows, watched_part
from server.vllm.cpu_lora.plan import Plan, plan
from server.vllm.cpu_lora.slots import SlotWeights

_wrappers: weakref.WeakValueDictionary[int, CpuLoraWrapper] = weakref.WeakValueDictionary()


class CpuLoraWrapper(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM ships no types
    """Applies adapters group by group; rows without an adapter are never touched.

    Rows of watched adapters (see server.vllm.bounds) leave every layer within its bounds.
    """

    def __init__(
        self,
        max_num_batched_tokens: int,
        max_batches: int,
        device: torch.device | str,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_num_batched_tokens, max_batches, device, **kwargs)
        self._adopted: dict[int, SlotWeights] = {}
        self._plan: Plan = ()
        self._sampler_plan: Plan | None = ()
        self._engine_ids: Sequence[int | None] = ()  # by slot
        self._watched: frozenset[int] = frozenset()  # slots
        self._number = id(self)
        _wrappers[self._number] = self

    def adopt(self, layer: BaseLayerWithLoRA) -> None:
        """Let `layer` keep its weights in our layout: its stacked tensors become views of it."""
        if isinstance(layer, BaseLinearLayerWithLoRA):
            weights = SlotWeights(layer.lora_a_stacked, layer.lora_b_stacked)
            layer.lora_a_stacked, layer.lora_b_stacked = weights.a_views, weights.b_views
        elif isinstance(layer, LogitsProcessorWithLoRA):
            weights = SlotWeights([layer.lora_a_stacked], [layer.lora_b_stacked])
            layer.lora_a_stacked, layer.lora_b_stacked = weights.a_views[0], weights.b_views[0]
        elif isinstance(layer, VocabParallelEmbeddingWithLoRA):
            weights = SlotWeights([], [layer.lora_b_stacked])
            layer.lora_b_stacked = weights.b_views[0]
        else:
            return
        self._adopted[weights.b_views[0].data_ptr()] = weights
        _count_one_slot_at_a_write(layer, weights)

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], *args: Any, **kwargs: Any
    ) -> None:
        """Group the tokens of the coming step; vLLM calls this only when the mapping changed."""
        super().update_metadata(mapping, lora_index_to_id, *args, **kwargs)
        self._engine_ids = tuple(lora_index_to_id)
        self._watched = frozenset(
            slot for slot, engine_id in enumerate(self._engine_ids) if watch.watches(engine_id)
        )
        self._plan = plan(self.token_lora_indices.numpy())
        self._sampler_plan = None
        self.no_lora = not self._plan

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the adapters' part to y [tokens, outputs] for x [tokens, inputs]."""
        if torch.compiler.is_compiling():
            torch.ops.attune.cpu_lora_linear(
                y, x, list(lora_a_stacked), list(lora_b_stacked), scale, self._number
            )
        else:
            self._add(y, x, lora_a_stacked, lora_b_stacked, self._plan, scale)

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """Add B to y [tokens, hidden] for x [tokens, rank], the adapter's own embedding rows."""
        if torch.compiler.is_compiling():
            torch.ops.attune.cpu_lora_linear(y, x, [], [lora_b_stacked], 1.0, self._number)
        else:
            self._add(y, x, (), (lora_b_stacked,), self._plan, 1.0)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the adapters' part to y [rows, vocabulary], one row for each sampled token."""
        rows_plan = self._plan_of_samples()
        self._add(y, x, (lora_a_stacked,), (lora_b_stacked,), rows_plan, scale)

    def add_shrink(
        self,
        y: tuple[torch.Tensor, ...] | torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        scale: float,
        **kwargs: Any,
    ) -> None:
        """Set y[slice] [tokens, rank] to x A^T; only fully sharded adapters come this way."""
        x = x.view(-1, x.shape[-1])
        for target, a in zip(y, lora_a_stacked, strict=True):
            _add_each(target.view(-1, target.shape[-1]), x, a.transpose(-1, -2), self._plan, scale)

    def add_expand(
        self,
        y: torch.Tensor,
        x: tuple[torch.Tensor, ...] | torch.Tensor,
        lora_b_stacked: tuple[torch.Tensor, ...],
        output_slices: tuple[int, ...],
        offset_start: int = 0,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """Add x[slice] B^T to its columns of y; only fully sharded adapters come this way."""
        y = y.view(-1, y.shape[-1])
        for hidden, b, outputs in zip(x, lora_b_stacked, output_slices, strict=True):
            columns = y[:, offset_start : offset_start + outputs]
            _add_each(columns, hidden, b.transpose(-1, -2), self._plan, 1.0)
            offset_start += outputs
        self._bound(y, self._plan)

    def apply_lora_full_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        weight_stacked: torch.Tensor,
        bias_stacked: torch.Tensor,
        module_enabled: torch.Tensor,
    ) -> None:
        """Replace the rows of y whose adapter brings a classifier head of its own."""
        own = torch.zeros(x.shape[0], weight_stacked.shape[-2])
        _add_each(own, x, weight_stacked.transpose(-1, -2), self._plan_of_samples(), 1.0)
        y.copy_(self._select_full_linear_output(y, own, bias_stacked, module_enabled))

    def _add(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        a: Sequence[torch.Tensor],
        b: Sequence[torch.Tensor],
        rows_plan: Plan,
        scale: float,
    ) -> None:
        if rows_plan:
            y = y.view(-1, y.shape[-1])
            self._weights(a, b).add(y, x.view(-1, x.shape[-1]), rows_plan, scale)
            self._bound(y, rows_plan)

    def _bound(self, y: torch.Tensor, rows_plan: Plan) -> None:
        if self._watched:
            for slot in bound_rows(y, watched_part(rows_plan, self._watched), self._watched):
                watch.saturated(self._engine_ids[slot])

    def _plan_of_samples(self) -> Plan:
        if self._sampler_plan is None:
            self._sampler_plan = plan(self.sampler_indices.numpy())
        return self._sampler_plan

    def _weights(self, a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> SlotWeights:
        # A layer that nobody let us adopt is copied at each call: right, but slow.
        return self._adopted.get(b[0].data_ptr()) or SlotWeights(a, b)


def _count_one_slot_at_a_write(layer: BaseLayerWithLoRA, weights: SlotWeights) -> None:
    """Adapters come and go a slot at a time; counting all slots again costs more than a step."""
    for name in ("set_lora", "reset_lora"):
        setattr(layer, name, _rewriting(weights, getattr(layer, name)))


def _rewriting(weights: SlotWeights, write: Callable[..., None]) -> Callable[..., None]:
    def rewrite(index: int, *args: Any, **kwargs: Any) -> None:
        weights.rewrite(index, lambda: write(index, *args, **kwargs))

    return rewrite


def _add_each(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, rows_plan: Plan, scale: float
) -> None:
    """Add x @ weights[slot] * scale to the rows of y; `weights` is [slots, 1, inputs, outputs]."""
    for group in rows_plan:
        for slot, tokens in group.by_slot():
            delta = x[tokens].float() @ weights[slot, 0].float()
            y.index_add_(0, tokens, (delta * scale).to(y.dtype))


@torch.library.custom_op("attune::cpu_lora_linear", mutates_args={"y"})  # type: ignore[untyped-decorator]
def _cpu_lora_linear(
    y: torch.Tensor,
    x: torch.Tensor,
    a: list[torch.Tensor],
    b: list[torch.Tensor],
    scale: float,
    wrapper: int,
) -> None:
    # Compiled graphs must not bake one step's grouping in, so they call this as one opaque step.
    owner = _wrappers[wrapper]
    owner._add(y, x, a, b, owner._plan, scale)


@_cpu_lora_linear.register_fake  # type: ignore[untyped-decorator]
def _cpu_lora_linear_fake(
    y: torch.Tensor,
    x: torch.Tensor,
    a: list[torch.Tensor],
    b: list[torch.Tensor],
    scale: float,
    wrapper: int,
) -> None:
    return None
