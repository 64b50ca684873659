"""vLLM 0.32 as an `EngineAdapters`: the one module that touches its LoRA internals.

Relies on `OpenAIServingModels.lora_requests` (looked up by request model name),
`OpenAIServingModels.model_name` (what responses say) and `AsyncLLM.add_lora/remove_lora`;
tests/contract pins them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest

from core.errors import Unavailable


class VllmEngine:
    """Adapters of a running vLLM server."""

    def __init__(self, engine_client: Any, serving_models: Any) -> None:
        self._client = engine_client
        self._models = serving_models
        _tell_public_names(serving_models)

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        """See `EngineAdapters.load`. `add_lora` also preloads the weights on every worker."""
        request = LoRARequest(lora_name=name, lora_int_id=engine_id, lora_path=str(path))
        try:
            await self._client.add_lora(request)
        except Exception as error:  # vLLM raises whatever its worker raised
            raise Unavailable(f"The engine refused adapter '{name}': {error}") from error
        self._models.lora_requests[name] = request

    async def unload(self, name: str, engine_id: int) -> None:
        """See `EngineAdapters.unload`."""
        self._models.lora_requests.pop(name, None)
        await self._client.remove_lora(engine_id)


def _tell_public_names(serving_models: Any) -> None:
    """Responses name the version as the client may ask for it, not by its engine name."""
    original = serving_models.model_name

    def public(lora_request: LoRARequest | None = None) -> str:
        name: str = original(lora_request)
        # Engine names are `<tenant>/<adapter>@<n>`; adapter names contain no slash.
        return name.rpartition("/")[2] if lora_request is not None else name

    serving_models.model_name = public
