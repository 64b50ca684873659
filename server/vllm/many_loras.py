"""What in vLLM 0.32 costs more the more adapters there are, put right; importing it loads no vLLM.

`WorkerLoRAManager.add_adapter`, called in every step for every adapter in it, copies the list of
all resident adapters to look one up: with 2,000 of them, 16 look-ups take a millisecond of each
step. `vllm:lora_requests_info` has a series for each *combination* of adapters that was ever seen
in a step: a new one at nearly every step, kept for ever. A contract test fails when vLLM mends
either.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

_MARK = "attune_looks_up"


def install() -> bool:
    """Look resident adapters up without copying their list; True if it applies.

    Call it in each vLLM process before the model is loaded; again, it changes nothing.
    """
    import vllm
    from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

    if not vllm.__version__.startswith("0.32."):
        return False
    stock = LRUCacheWorkerLoRAManager.add_adapter
    if hasattr(stock, _MARK):
        return True

    def add_adapter(self: Any, lora_request: Any) -> bool:
        manager = self._adapter_manager
        if lora_request.load_inplace or lora_request.lora_int_id not in manager._active_adapters:
            return bool(stock(self, lora_request))
        # In its slot: what is left of the stock path is to count both its places as just used.
        manager.get_adapter(lora_request.lora_int_id)
        manager.activate_adapter(lora_request.lora_int_id)
        return True

    setattr(add_adapter, _MARK, True)
    LRUCacheWorkerLoRAManager.add_adapter = add_adapter
    return True


def drop_combinations(engine_client: Any) -> bool:
    """Keep no series per combination of running adapters; whether there was one to drop."""
    manager = getattr(engine_client, "logger_manager", None)
    dropped = False
    for stats in getattr(manager, "stat_loggers", ()):
        if getattr(stats, "gauge_lora_info", None) is not None:
            stats.gauge_lora_info.clear()
            stats.gauge_lora_info = None
            dropped = True
    return dropped
