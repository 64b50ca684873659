"""Uploads made plain: what people have becomes two files that say one thing to every reader."""

from __future__ import annotations

CONVERT = (
    "Pickled weights are never read. To make adapter_model.safetensors of adapter_model.bin: "
    "`import torch; from safetensors.torch import save_file; save_file({k: v.contiguous() for k, v "
    "in torch.load('adapter_model.bin', map_location='cpu', weights_only=True).items()}, "
    "'adapter_model.safetensors')`."
)
"""What to tell somebody with a pickled adapter."""
