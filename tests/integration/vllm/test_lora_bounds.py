"""Rows of watched adapters are bounded, on CPUs by our wrapper and on GPUs by one operation; no
other row changes by a bit."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.worker.worker_base import WorkerBase

from server.vllm.bounds import gpu_wrapper
from server.vllm.bounds.gpu_wrapper import BoundedGpuWrapper, SlotBounds
from server.vllm.bounds.install import NOTE_SATURATED, _bound_on_gpus
from server.vllm.bounds.rule import SMALL_GAIN, bounded, gain, limit, needs_watching
from server.vllm.bounds.watch import Watch
from server.vllm.cpu_lora import wrapper as cpu_wrapper
from server.vllm.cpu_lora.plan import RUN_TOKENS
from server.vllm.cpu_lora.wrapper import CpuLoraWrapper

INF, NAN = float("inf"), float("nan")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
RANK, INPUTS, OUTPUTS = 4, 6, 5


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch of the test's own in place of the process's."""
    mine = Watch()
    monkeypatch.setattr(cpu_wrapper, "watch", mine)
    monkeypatch.setattr(gpu_wrapper, "watch", mine)
    return mine


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounded_rows_are_numbers_within_the_limit(dtype: torch.dtype) -> None:
    rows = torch.tensor([[NAN, INF, -INF, torch.finfo(dtype).max, 3.0]], dtype=dtype)
    most = float(torch.tensor(limit(dtype), dtype=dtype))
    assert bounded(rows).tolist() == [[0.0, most, -most, most, 3.0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_numbers_at_the_limit_make_one_the_dtype_holds(dtype: torch.dtype) -> None:
    """A rotary embedding: x cos + y sin, at most the square root of 2 times the larger."""
    most = torch.tensor(limit(dtype), dtype=dtype)
    assert (most * 0.7071 + most * 0.7071).isfinite()


def test_squares_at_the_limit_can_be_summed_over_a_million_in_float32() -> None:
    """Scores, norms and gated layers multiply two numbers and sum over one layer at most."""
    assert limit(torch.float32) ** 2 * 1e6 < torch.finfo(torch.float32).max / 1e3


def test_the_gain_is_at_least_what_a_layer_can_do() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a = torch.randn(RANK, INPUTS, generator=generator)
        b = torch.randn(OUTPUTS, RANK, generator=generator)
        x = torch.ones(INPUTS) * torch.randn(INPUTS, generator=generator).sign()
        assert float((2.0 * b @ a @ x).abs().max()) <= gain(a, b, 2.0)


@pytest.mark.parametrize("value", [1e2, 1e6, 1e20, 3e38])
def test_large_weights_are_watched_and_trained_ones_are_not(value: float) -> None:
    ordinary = gain(torch.full((16, 4096), 0.05), torch.full((4096, 16), 0.05), 2.0)
    absurd = gain(torch.full((16, 4096), value), torch.full((4096, 16), value), 2.0)
    assert not needs_watching([ordinary] * 9, torch.float32)
    assert not needs_watching([ordinary] * 9, torch.bfloat16)
    assert needs_watching([ordinary, absurd], torch.bfloat16)


@pytest.mark.parametrize(("a", "b"), [(3e38, 1e-38), (1e-38, 3e38), (0.0, 3e38), (3e38, 0.0)])
def test_a_tiny_matrix_does_not_make_up_for_a_huge_one(a: float, b: float) -> None:
    """A x overflows before B can make it small; B * scaling does before A x is known."""
    found = gain(torch.full((16, 64), a), torch.full((64, 16), b), 2.0)
    assert needs_watching([found], torch.float32)


def test_what_cannot_be_measured_is_watched_and_so_is_all_in_float16() -> None:
    assert needs_watching([NAN], torch.float32)
    assert needs_watching([INF], torch.float32)
    assert not needs_watching([SMALL_GAIN], torch.float32)
    assert needs_watching([0.0], torch.float16)


def told(slots: list[int]) -> CpuLoraWrapper:
    """A wrapper that knows of the batch; adapter 100 + s lies in slot s of three."""
    wrapper = CpuLoraWrapper(len(slots), len(slots), "cpu")
    ids = tuple(100 + slot if slot >= 0 else 0 for slot in slots)
    wrapper.update_metadata(LoRAMapping(ids, ids, is_prefill=True), [100, 101, 102], 4, 11)
    return wrapper


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "slots",
    [
        [0, -1, 1, 2, 1],
        [1, 1, 0, 0, -1],
        [0] * RUN_TOKENS + [-1] + [1] * RUN_TOKENS,
    ],
    ids=["scattered", "in turn", "long runs"],
)
@pytest.mark.parametrize("fill", [1e30, INF, NAN])
def test_on_cpus_only_the_watched_adapters_rows_are_bounded_and_it_is_told(
    watch: Watch, dtype: torch.dtype, slots: list[int], fill: float
) -> None:
    watch.begin(101)
    a = torch.ones(3, 1, RANK, INPUTS, dtype=dtype)
    b = torch.ones(3, 1, OUTPUTS, RANK, dtype=dtype)
    b[1] = fill
    x, y = torch.ones(len(slots), INPUTS, dtype=dtype), torch.ones(len(slots), OUTPUTS, dtype=dtype)
    told(slots).add_lora_linear(y, x, (a,), (b,), 1.0, (OUTPUTS,))
    ours = torch.tensor([slot == 1 for slot in slots])
    assert float(y[ours].abs().max()) <= float(torch.tensor(limit(dtype), dtype=dtype))
    assert y[~ours & (torch.tensor(slots) >= 0)].unique().tolist() == [1.0 + RANK * INPUTS]
    assert y[torch.tensor(slots) < 0].unique().tolist() == [1.0]
    assert (watch.has_saturated(101), watch.has_saturated(100)) == (True, False)


def test_on_cpus_a_layer_the_adapter_leaves_alone_is_bounded_too(watch: Watch) -> None:
    """What another layer made of its row arrives here: keys and values must be numbers."""
    watch.begin(101)
    zeros_a, zeros_b = torch.zeros(3, 1, RANK, INPUTS), torch.zeros(3, 1, OUTPUTS, RANK)
    y = torch.tensor([[NAN] * OUTPUTS, [1.0] * OUTPUTS])
    told([1, 0]).add_lora_linear(y, torch.ones(2, INPUTS), (zeros_a,), (zeros_b,), 1.0, (OUTPUTS,))
    assert y.tolist() == [[0.0] * OUTPUTS, [1.0] * OUTPUTS]
    assert watch.has_saturated(101)


def test_on_cpus_nothing_is_bounded_where_nobody_is_watched(watch: Watch) -> None:
    a, b = torch.ones(3, 1, RANK, INPUTS), torch.full((3, 1, OUTPUTS, RANK), 1e30)
    y = torch.zeros(1, OUTPUTS)
    told([1]).add_lora_linear(y, torch.ones(1, INPUTS), (a,), (b,), 1.0, (OUTPUTS,))
    assert float(y.max()) > 1e30


@pytest.mark.parametrize("dtype", DTYPES)
def test_on_gpus_one_operation_bounds_the_watched_rows_and_flags_their_slots(
    watch: Watch, dtype: torch.dtype
) -> None:
    """The operation itself is plain torch: here it runs on the CPU."""
    watch.begin(101)
    bounds = SlotBounds(3, "cpu")
    bounds.renew([100, 101, None], dtype)
    huge = torch.finfo(dtype).max
    y = torch.tensor([[NAN, 1.0], [INF, -huge], [0.5, 2.0], [huge, INF]], dtype=dtype)
    slots = torch.tensor([1, 1, 1, 0])
    torch.ops.attune.bound_rows(y, slots, bounds.limits, bounds.exceeded)
    most = float(torch.tensor(limit(dtype), dtype=dtype))
    assert y.tolist() == [[0.0, 1.0], [most, -most], [0.5, 2.0], [huge, INF]]
    assert not watch.has_saturated(101)
    bounds.note()
    assert (watch.has_saturated(101), watch.has_saturated(100)) == (True, False)


def test_on_gpus_flags_are_told_before_the_slot_changes_hands(watch: Watch) -> None:
    watch.begin(101)
    bounds = SlotBounds(1, "cpu")
    bounds.renew([101], torch.float32)
    y = torch.tensor([[NAN]])
    torch.ops.attune.bound_rows(y, torch.tensor([0]), bounds.limits, bounds.exceeded)
    bounds.renew([102], torch.float32)
    assert (watch.has_saturated(101), watch.has_saturated(102)) == (True, False)
    assert bounds.limits.tolist() == [INF, INF]
    assert bounds.exceeded.tolist() == [0, 0]


def test_the_gpu_wrapper_overrides_what_vllm_calls() -> None:
    """When this fails, vLLM has renamed or moved a step: look where rows leave a LoRA layer now."""
    for name in ("update_metadata", "add_expand", "add_lora_embedding", "add_lora_logits"):
        assert name in vars(PunicaWrapperGPU)
        assert name in vars(BoundedGpuWrapper)
    assert "self.add_expand(" in inspect.getsource(PunicaWrapperGPU.add_lora_linear)


def test_on_gpus_vllm_is_given_the_wrapper_and_its_workers_tell_on_request(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Platform:
        pass

    monkeypatch.setattr(WorkerBase, NOTE_SATURATED, None, raising=False)
    _bound_on_gpus(Platform)
    given: Any = Platform
    assert resolve_obj_by_qualname(given.get_punica_wrapper()) is BoundedGpuWrapper

    class Wrapper:
        """As much of one as its flags."""

        bounds = _bounds = SlotBounds(1, "cpu")

    watch.begin(101)
    Wrapper.bounds.renew([101], torch.float32)
    Wrapper.bounds.exceeded[1] = 1
    wrapper: Any = Wrapper()
    gpu_wrapper._wrappers.add(wrapper)
    getattr(WorkerBase, NOTE_SATURATED)(None)
    assert watch.has_saturated(101)
