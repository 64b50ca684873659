"""Our CPU LoRA against the definition: y[t] += s B[a(t)] A[a(t)] x[t], nothing where a(t) is -1.

The last test runs vLLM's own wrapper and passes while that is wrong; when it fails, upstream has
mended it and `server/vllm/cpu_lora/` can go.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from server.vllm.cpu_lora.plan import RUN_TOKENS, plan
from server.vllm.cpu_lora.slots import BLOCK_DIAGONAL_VALUES, SlotWeights
from server.vllm.cpu_lora.wrapper import CpuLoraWrapper

MAX_RANK = 8
VOCABULARY = 11


@dataclass(frozen=True, slots=True)
class Batch:
    """A layer's weights in vLLM's layout and one batch for it."""

    token_slots: list[int]
    a: tuple[torch.Tensor, ...]
    b: tuple[torch.Tensor, ...]
    x: torch.Tensor
    y: torch.Tensor
    scale: float
    is_prefill: bool

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(part.shape[-2] for part in self.b)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Base and adapter tokens in any order, each slot and slice with a rank of its own, 0 too."""
    slots = draw(st.integers(1, 5))
    outputs = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    inputs = draw(st.integers(1, 12))
    slot = st.integers(-1, slots - 1)
    if draw(st.booleans()):
        token_slots = draw(st.lists(slot, min_size=1, max_size=40))
    else:
        runs = draw(
            st.lists(st.tuples(slot, st.integers(1, RUN_TOKENS + 9)), min_size=1, max_size=5)
        )
        token_slots = [s for s, length in runs for _ in range(length)]
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    a = tuple(values(slots, 1, MAX_RANK, inputs) for _ in outputs)
    b = tuple(values(slots, 1, size, MAX_RANK) for size in outputs)
    for part_a, part_b in zip(a, b, strict=True):
        for s in range(slots):
            rank = draw(st.integers(0, MAX_RANK))
            part_a[s, :, rank:] = 0
            part_b[s, ..., rank:] = 0
    return Batch(
        token_slots=token_slots,
        a=a,
        b=b,
        x=values(len(token_slots), inputs),
        y=values(len(token_slots), sum(outputs)),
        scale=draw(st.sampled_from([1.0, 0.5, 2.0])),
        is_prefill=draw(st.booleans()),
    )


def expected(batch: Batch) -> torch.Tensor:
    """The definition, token by token, in float64."""
    y = batch.y.double()
    for token, slot in enumerate(batch.token_slots):
        if slot < 0:
            continue
        parts = [
            b[slot, 0].double() @ (a[slot, 0].double() @ batch.x[token].double())
            for a, b in zip(batch.a, batch.b, strict=True)
        ]
        y[token] += batch.scale * torch.cat(parts)
    return y


def wrapper_for(
    token_slots: list[int],
    slots: int,
    is_prefill: bool,
    sampled: list[int] | None = None,
    kind: type[PunicaWrapperCPU] = CpuLoraWrapper,
) -> PunicaWrapperCPU:
    """A wrapper that was told of the batch as vLLM tells it: adapter 100 + s lies in slot s."""
    wrapper = kind(len(token_slots), len(token_slots), "cpu")
    ids = [100 + slot if slot >= 0 else 0 for slot in token_slots]
    mapping = LoRAMapping(
        tuple(ids),
        tuple(ids if sampled is None else [ids[i] for i in sampled]),
        is_prefill=is_prefill,
    )
    wrapper.update_metadata(mapping, [100 + s for s in range(slots)], slots + 1, VOCABULARY)
    return wrapper


def assert_close(actual: torch.Tensor, reference: torch.Tensor, batch: Batch) -> None:
    tight = actual.dtype is torch.float32
    tolerance = 1e-4 if tight else 4e-2
    size = max(1.0, float(reference.abs().max()))
    assert float((actual.double() - reference).abs().max()) <= tolerance * size
    base = [t for t, slot in enumerate(batch.token_slots) if slot < 0]
    assert torch.equal(actual[base], batch.y[base])


@given(batches())
@settings(max_examples=150, deadline=None)
def test_every_token_gets_its_own_adapter_and_base_tokens_stay_bit_for_bit(batch: Batch) -> None:
    wrapper = wrapper_for(batch.token_slots, batch.a[0].shape[0], batch.is_prefill)
    y = batch.y.clone()
    wrapper.add_lora_linear(y, batch.x, batch.a, batch.b, batch.scale, batch.outputs)
    assert_close(y, expected(batch), batch)


@given(batches())
@settings(max_examples=60, deadline=None)
def test_the_sharded_path_in_two_steps_agrees(batch: Batch) -> None:
    wrapper = wrapper_for(batch.token_slots, batch.a[0].shape[0], batch.is_prefill)
    y = batch.y.clone()
    hidden = torch.zeros(len(batch.a), len(batch.x), MAX_RANK)
    wrapper.add_shrink(hidden, batch.x, batch.a, batch.scale)
    wrapper.add_expand(y, hidden, batch.b, batch.outputs)
    assert_close(y, expected(batch), batch)


@given(batches(), st.data())
@settings(max_examples=60, deadline=None)
def test_logits_follow_the_sampled_rows(batch: Batch, data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(st.integers(0, len(batch.x) - 1), min_size=1, unique=True).map(sorted)
    )
    one = Batch(
        [batch.token_slots[i] for i in rows],
        batch.a[:1],
        batch.b[:1],
        batch.x[rows],
        batch.y[rows, : batch.outputs[0]],
        batch.scale,
        batch.is_prefill,
    )
    wrapper = wrapper_for(batch.token_slots, batch.a[0].shape[0], batch.is_prefill, rows)
    y = one.y.clone()
    wrapper.add_lora_logits(y, one.x, one.a[0], one.b[0], one.scale)
    assert_close(y, expected(one), one)


@given(batches(), st.data())
@settings(max_examples=60, deadline=None)
def test_embeddings_add_b_times_the_adapters_own_rows(batch: Batch, data: st.DataObject) -> None:
    slots = batch.a[0].shape[0]
    table = torch.randn(slots, VOCABULARY, MAX_RANK, generator=torch.Generator().manual_seed(1))
    table = table.to(batch.x.dtype)
    words = torch.tensor(
        data.draw(
            st.lists(st.integers(0, VOCABULARY - 1), min_size=len(batch.x), max_size=len(batch.x))
        )
    )
    wrapper = wrapper_for(batch.token_slots, slots, batch.is_prefill)
    rows = table.flatten(0, 1)[words + wrapper._embeddings_indices[: len(words)]]
    y = batch.y[:, : batch.outputs[0]].clone()
    wrapper.add_lora_embedding(y, rows, batch.b[0], add_input=True)
    reference = batch.y[:, : batch.outputs[0]].double()
    for token, slot in enumerate(batch.token_slots):
        if slot >= 0:
            own = table[slot, words[token]].double()
            reference[token] += batch.b[0][slot, 0].double() @ own
    trimmed = Batch(
        batch.token_slots, (), batch.b[:1], rows, batch.y[:, : batch.outputs[0]], 1, True
    )
    assert_close(y, reference, trimmed)


@pytest.mark.parametrize("outputs", [(6, 4), (BLOCK_DIAGONAL_VALUES // 16, 40)])
@pytest.mark.parametrize(
    "tokens",
    [[1, -1, 0, 1, 2], [-1, 0, 0, 1, 1, 2, 2], [0] * RUN_TOKENS + [-1] + [1] * RUN_TOKENS + [0]],
    ids=["scattered", "in slot order", "long runs"],
)
def test_weights_written_through_the_views_count_at_once(
    outputs: tuple[int, ...], tokens: list[int]
) -> None:
    """The layer writes, clears and rewrites slots between steps, in inference mode too."""
    generator = torch.Generator().manual_seed(0)
    slots, inputs = 3, 7
    weights = SlotWeights(
        [torch.zeros(slots, 1, MAX_RANK, inputs) for _ in outputs],
        [torch.zeros(slots, 1, size, MAX_RANK) for size in outputs],
    )
    x = torch.randn(len(tokens), inputs, generator=generator)
    grouped = plan(np.array(tokens))

    def check() -> None:
        y = torch.zeros(len(tokens), sum(outputs))
        weights.add(y, x, grouped)
        batch = Batch(tokens, weights.a_views, weights.b_views, x, torch.zeros_like(y), 1.0, True)
        assert_close(y, expected(batch), batch)

    check()
    for slot, rank, inference in ((1, 3, False), (0, 8, True), (1, 5, True), (0, 0, True)):
        with torch.inference_mode(inference):
            for a, b in zip(weights.a_views, weights.b_views, strict=True):
                a[slot], b[slot] = 0, 0
                a[slot, 0, :rank].copy_(torch.randn(rank, inputs, generator=generator))
                b[slot, 0, :, :rank].copy_(torch.randn(b.shape[2], rank, generator=generator))
        assert weights.ranks()[slot] == rank
        check()


def test_a_slot_written_alone_has_its_rank_counted_alone() -> None:
    """As vLLM's layers write theirs; what others write meanwhile is noticed all the same."""
    a, b = torch.zeros(3, 1, MAX_RANK, 4), torch.zeros(3, 1, 5, MAX_RANK)
    weights = SlotWeights([a], [b])
    assert weights.ranks() == [0, 0, 0]
    counted: list[int] = []
    count = weights._count
    weights._count = lambda slots: counted.append(len(slots)) or count(slots)  # type: ignore
    weights.rewrite(1, lambda: weights.a_views[0][1, 0, :3].fill_(1.0))
    assert weights.ranks() == [0, 3, 0]
    weights.rewrite(1, lambda: weights.a_views[0][1].zero_())
    assert weights.ranks() == [0, 0, 0]
    assert counted == [1, 1]
    weights.a_views[0][2, 0, :2].fill_(1.0)
    weights.rewrite(0, lambda: weights.a_views[0][0, 0, :1].fill_(1.0))
    assert weights.ranks() == [1, 0, 2]


def test_one_empty_slot_between_two_does_not_part_them() -> None:
    """Six slots of eight, one token each: one product instead of three. Ten empty ones part."""
    assert len(plan(np.array([7, 0, 1, 5, 3, 4]))) == 1
    assert len(plan(np.array([0, 11]))) == 2


def test_an_adapter_full_of_infinities_stays_in_its_own_rows() -> None:
    tokens = [0, 1, 1, -1, 2, 2, 2]
    a, b = torch.ones(3, 1, MAX_RANK, 4), torch.ones(3, 1, 5, MAX_RANK)
    b[1] = float("inf")
    y = torch.zeros(len(tokens), 5)
    wrapper_for(tokens, 3, True).add_lora_linear(
        y, torch.ones(len(tokens), 4), (a,), (b,), 1.0, (5,)
    )
    assert y[[0, 3, 4, 5, 6]].isfinite().all()


def test_a_batch_of_base_tokens_only_is_marked_and_left_alone() -> None:
    wrapper = wrapper_for([-1, -1, -1], 2, True)
    assert wrapper.no_lora
    y = torch.zeros(3, 5)
    a, b = torch.ones(2, 1, MAX_RANK, 4), torch.ones(2, 1, 5, MAX_RANK)
    wrapper.add_lora_linear(y, torch.ones(3, 4), (a,), (b,), 1.0, (5,))
    wrapper.add_lora_logits(y, torch.ones(3, 4), a, b, 1.0)
    wrapper.add_lora_embedding(y, torch.ones(3, MAX_RANK), b)
    assert not y.any()


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=200))
@settings(max_examples=200, deadline=None)
def test_a_plan_names_every_adapter_token_once_and_under_its_slot(token_slots: list[int]) -> None:
    seen: list[tuple[int, int]] = []
    for group in plan(np.array(token_slots)):
        count = group.width * group.depth
        rows = torch.arange(group.start, group.start + count)
        rows = rows if group.tokens is None else group.tokens
        owner = torch.arange(group.low, group.high).repeat_interleave(group.depth)
        assert len(rows) == count
        assert all(token_slots[row] in range(group.low, group.high) for row in rows)
        if group.real is not None:
            assert group.targets is not None
            assert rows[group.real].equal(group.targets)
            rows, owner = group.targets, owner[group.real]
        pairs = list(zip(rows.tolist(), owner.tolist(), strict=True))
        by_slot = [(row, slot) for slot, tokens in group.by_slot() for row in tokens.tolist()]
        assert by_slot == pairs
        seen += pairs
    assert sorted(seen) == [(t, s) for t, s in enumerate(token_slots) if s >= 0]


def test_a_compiled_layer_follows_the_batch_and_not_the_one_it_was_traced_with() -> None:
    a, b = torch.ones(2, 1, MAX_RANK, 4), torch.ones(2, 1, 5, MAX_RANK)
    b[1] = 2
    wrapper = wrapper_for([-1, -1, -1], 2, True)

    @torch.compile(backend="eager", fullgraph=True)
    def layer(x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(3, 5)
        wrapper.add_lora_linear(y, x, (a,), (b,), 1.0, (5,))
        return y

    assert not layer(torch.ones(3, 4)).any()
    mapping = LoRAMapping((101, 0, 100), (101, 0, 100), is_prefill=True)
    wrapper.update_metadata(mapping, [100, 101], 3, VOCABULARY)
    assert layer(torch.ones(3, 4))[:, 0].tolist() == [64.0, 0.0, 32.0]


def test_importing_the_installer_loads_neither_vllm_nor_torch() -> None:
    code = "import sys, server.vllm.cpu_lora.install"
    code += "; print('vllm' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_vllms_own_wrapper_still_gives_base_tokens_the_last_slots_adapter() -> None:
    """When this fails, upstream is right: measure it, then drop the replacement."""
    a, b = torch.ones(2, 1, MAX_RANK, 4), torch.ones(2, 1, 5, MAX_RANK)
    y = torch.zeros(2, 5)
    stock = wrapper_for([-1, 0], 2, True, kind=PunicaWrapperCPU)
    stock.add_lora_linear(y, torch.ones(2, 4), (a,), (b,), 1.0, (5,))
    assert y[0].any(), "vLLM no longer touches base rows: the CPU LoRA replacement may go"
