"""Has every adapter that vLLM 0.32 loads measured, and on GPUs its rows bounded.

Owns what of vLLM is replaced for that; importing it loads neither vLLM nor torch. On CPUs the rows
are bounded by our own arithmetic (server.vllm.cpu_lora).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from server.vllm.bounds.log import prepare
from server.vllm.bounds.watch import watch

logger = logging.getLogger(__name__)

SUPPORTED_VERSION = "0.32."
GPU_WRAPPER = "server.vllm.bounds.gpu_wrapper.BoundedGpuWrapper"
NOTE_SATURATED = "attune_note_saturated"
"""The worker's method that writes down what GPUs have flagged, for `collective_rpc`."""

_MARK = "attune_measures"
_UNBOUNDED = (
    "LoRA: what adapters put out is not bounded here (%s): one with absurd weights can change "
    "other tenants' answers."
)


def install() -> bool:
    """Watch the adapters of every engine that this process will start; True if it applies.

    Call it in each vLLM process before the model is loaded; again, it changes nothing.
    """
    import vllm
    from vllm.platforms import current_platform

    prepare()
    if not vllm.__version__.startswith(SUPPORTED_VERSION):
        logger.warning(_UNBOUNDED, f"that is for {SUPPORTED_VERSION}x, not {vllm.__version__}")
        return False
    _measure_when_loaded()
    if current_platform.is_cuda_alike():
        _bound_on_gpus(type(current_platform))
    elif not current_platform.is_cpu():
        logger.warning(_UNBOUNDED, f"this is a {current_platform.device_type}, no CPU and no GPU")
        return False
    return True


def _measure_when_loaded() -> None:
    from vllm.lora.worker_manager import WorkerLoRAManager

    stock = WorkerLoRAManager._load_adapter
    if hasattr(stock, _MARK):
        return

    def load_adapter(self: Any, lora_request: Any) -> Any:
        from server.vllm.bounds.rule import gain, needs_watching

        lora = stock(self, lora_request)
        gains = (gain(*matrices) for matrices in _matrices(lora))
        if needs_watching(gains, self.lora_config.lora_dtype):
            watch.begin(lora_request.lora_int_id)
        return lora

    setattr(load_adapter, _MARK, True)
    WorkerLoRAManager._load_adapter = load_adapter


def _matrices(lora: Any) -> Iterator[tuple[Any, Any, float]]:
    """A, B and scaling of every layer of vLLM's `LoRAModel`, its experts' one by one."""
    for layer in lora.loras.values():
        several = isinstance(layer.lora_a, list)
        scalings = layer.scaling if isinstance(layer.scaling, list) else [layer.scaling]
        parts = (layer.lora_a, layer.lora_b) if several else ([layer.lora_a], [layer.lora_b])
        for at, (a, b) in enumerate(zip(*parts, strict=True)):
            if a is not None and b is not None:
                yield a, b, float(scalings[min(at, len(scalings) - 1)])


def _bound_on_gpus(platform: Any) -> None:
    from vllm.v1.worker.worker_base import WorkerBase

    platform.get_punica_wrapper = classmethod(lambda cls: GPU_WRAPPER)

    def note_saturated(self: Any) -> None:
        from server.vllm.bounds.gpu_wrapper import note_all

        note_all()

    setattr(WorkerBase, NOTE_SATURATED, note_saturated)
