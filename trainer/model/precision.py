"""The arithmetic of training: bfloat16 where the processor has it and the model is worth it.

Must not know: what is trained. Weights that are trained, their gradients and sums over tokens are
float32 in any case.
"""

from __future__ import annotations

import torch

from core.errors import Invalid
from trainer.types import Precision

_WORTH_IT = 50_000_000
"""Parameters: in smaller models the casts cost what the products gain."""


def in_bfloat16(device: torch.device, parameters: int, wanted: Precision) -> bool:
    """Whether products are computed in bfloat16. Raises Invalid where a GPU is to use float32."""
    if device.type == "cuda":
        if wanted == "float32":
            raise Invalid(
                "On a GPU the base model is held in bfloat16: leave precision at auto, or train "
                "on the CPU (ATTUNE_TRAINER_DEVICE=cpu).",
                param="precision",
            )
        return True
    has_it = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return wanted == "bfloat16" or (wanted == "auto" and has_it and parameters >= _WORTH_IT)
