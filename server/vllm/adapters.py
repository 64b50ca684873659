"""vLLM 0.32 as an `EngineAdapters`: the one module that touches its LoRA internals.

Relies on `OpenAIServingModels.lora_requests` (looked up by request model name),
`OpenAIServingModels.model_name` (what responses say), `AsyncLLM.add_lora/remove_lora`, `generate`
and `collective_rpc`; tests/contract pins them.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform

from core.errors import Unavailable
from core.places import reason_of
from server.vllm.bounds.install import NOTE_SATURATED
from server.vllm.bounds.log import BoundsLog

logger = logging.getLogger("attune.server")


class VllmEngine:
    """Adapters of a running vLLM server."""

    def __init__(self, engine_client: Any, serving_models: Any, bounds: BoundsLog) -> None:
        self._client = engine_client
        self._models = serving_models
        self._bounds = bounds
        _tell_public_names(serving_models)

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        """See `EngineAdapters.load`. `add_lora` also preloads the weights on every worker."""
        request = LoRARequest(lora_name=name, lora_int_id=engine_id, lora_path=str(path))
        try:
            await self._client.add_lora(request)
        except Exception as error:  # vLLM raises whatever its worker raised
            raise Unavailable(f"The engine refused {_public(name)}: {reason_of(error)}") from error
        self._models.lora_requests[name] = request

    async def unload(self, name: str, engine_id: int) -> None:
        """See `EngineAdapters.unload`."""
        self._models.lora_requests.pop(name, None)
        await self._client.remove_lora(engine_id)

    async def answer(self, name: str, prompt_tokens: Sequence[int]) -> None:
        """See `EngineAdapters.answer`. Prompts go through the whole vocabulary in even steps."""
        request = self._models.lora_requests[name]
        try:
            for length in prompt_tokens:
                await self._first_token(request, length)
        except Exception as error:  # whatever a step raised
            raise Unavailable(
                f"The engine cannot try {_public(name)}: {reason_of(error)}"
            ) from error

    async def _first_token(self, request: LoRARequest, prompt_tokens: int) -> None:
        config = self._client.model_config
        length = min(prompt_tokens, config.max_model_len - 1)
        step = config.get_vocab_size() // length
        prompt = {"prompt_token_ids": [at * step for at in range(length)]}
        one = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
        async for _ in self._client.generate(
            prompt, one, f"trial-{uuid.uuid4().hex}", lora_request=request
        ):
            pass

    def alive(self) -> bool:
        """See `EngineAdapters.alive`."""
        return not self._client.errored

    def is_large(self, engine_id: int) -> bool:
        """See `EngineAdapters.is_large`."""
        return self._bounds.is_large(engine_id)

    async def has_left_bounds(self, engine_id: int) -> bool:
        """See `EngineAdapters.has_left_bounds`. Only large adapters can have."""
        if not self._bounds.is_large(engine_id):
            return False
        if current_platform.is_cuda_alike():
            # Flags are on the device: the workers write them down when asked.
            try:
                await self._client.collective_rpc(NOTE_SATURATED)
            except Exception as error:  # vLLM raises whatever its worker raised
                raise Unavailable(
                    f"The engine cannot tell of its adapters: {reason_of(error)}"
                ) from error
        return self._bounds.has_saturated(engine_id)


def _public(name: str) -> str:
    return f"adapter '{name.rpartition('/')[2]}'"


def _tell_public_names(serving_models: Any) -> None:
    """Responses name the version as the client may ask for it, not by its engine name."""
    original = serving_models.model_name

    def public(lora_request: LoRARequest | None = None) -> str:
        name: str = original(lora_request)
        # Engine names are `<tenant>/<adapter>@<n>`; adapter names contain no slash.
        return name.rpartition("/")[2] if lora_request is not None else name

    serving_models.model_name = public
