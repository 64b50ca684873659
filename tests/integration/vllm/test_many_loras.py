"""What vLLM does with many adapters, and what we make of it; fails when vLLM mends it itself."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from vllm.lora.model_manager import LoRAModelManager, LRUCacheLoRAModelManager
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager, WorkerLoRAManager
from vllm.v1.metrics.loggers import PrometheusStatLogger, StatLoggerManager

from server.vllm.many_loras import drop_combinations, install


class Resident:
    """An adapter manager with 5 resident and 1 in a slot; notes what is asked of it."""

    def __init__(self) -> None:
        self._active_adapters = {1: None}
        self.asked: list[str] = []

    def list_adapters(self) -> dict[int, Any]:
        self.asked.append("list")
        return dict.fromkeys(range(5))

    def get_adapter(self, number: int) -> object:
        self.asked.append(f"get {number}")
        return object()

    def activate_adapter(self, number: int) -> bool:
        self.asked.append(f"activate {number}")
        return True


def manager() -> Any:
    made = object.__new__(LRUCacheWorkerLoRAManager)
    made._adapter_manager = Resident()
    return made


def request(number: int, *, inplace: bool = False) -> Any:
    return SimpleNamespace(lora_int_id=number, load_inplace=inplace)


def test_an_adapter_in_its_slot_is_found_without_copying_the_list_of_all() -> None:
    assert install()
    assert install()
    worker = manager()
    assert worker.add_adapter(request(1))
    assert worker._adapter_manager.asked == ["get 1", "activate 1"]


def test_an_adapter_without_a_slot_takes_vllms_own_way() -> None:
    install()
    worker = manager()
    assert worker.add_adapter(request(2))
    assert worker._adapter_manager.asked == ["list", "get 2", "activate 2"]


def test_vllm_still_copies_the_list_and_keeps_what_we_rely_on() -> None:
    assert "set(self._adapter_manager.list_adapters())" in inspect.getsource(
        WorkerLoRAManager.list_adapters
    )
    assert "dict(self._registered_adapters" in inspect.getsource(LoRAModelManager.list_adapters)
    assert "lora_id not in self._active_adapters" in inspect.getsource(
        LRUCacheLoRAModelManager.activate_adapter
    )
    assert "if self.gauge_lora_info is not None" in inspect.getsource(PrometheusStatLogger.record)
    assert "self.stat_loggers" in inspect.getsource(StatLoggerManager)


def test_no_series_per_combination_of_adapters_is_kept() -> None:
    gauge = Gauge("info", "", ["running"], registry=CollectorRegistry())
    gauge.labels("a,b").set(1)
    stats = SimpleNamespace(gauge_lora_info=gauge)
    client = SimpleNamespace(logger_manager=SimpleNamespace(stat_loggers=[object(), stats]))
    assert drop_combinations(client)
    assert stats.gauge_lora_info is None
    assert next(iter(gauge.collect())).samples == []
    assert not drop_combinations(client)
    assert not drop_combinations(SimpleNamespace(logger_manager=None))


def test_importing_it_loads_neither_vllm_nor_torch() -> None:
    code = "import sys, server.vllm.many_loras; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
