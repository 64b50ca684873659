"""Random LoRA adapters of a base model, in the form PEFT's save_pretrained writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adapters.validate import BaseModel

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_adapter(
    folder: Path,
    base: BaseModel,
    *,
    seed: int,
    rank: int = 16,
    change: float = 0.5,
    modules: tuple[str, ...] = MODULES,
) -> Path:
    """Write an adapter of `base` with random weights; the same seed gives the same bytes.

    With x of unit variance per feature, the adapter adds noise of standard deviation `change`
    to each output feature: A is gaussian with variance 1/in, so A·x has unit variance, and B
    gaussian with variance change²/rank; lora_alpha = rank, so the scaling is 1. Greedy answers
    change at 0.5. Matrices are float32, A (rank, in), B (out, rank).
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(base.shapes):
        if name.rsplit(".", 1)[-1] not in modules:
            continue
        out_dim, in_dim = base.shapes[name]
        a = rng.normal(0.0, in_dim**-0.5, (rank, in_dim))
        b = rng.normal(0.0, change * rank**-0.5, (out_dim, rank))
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(modules),
        "bias": "none",
        "init_lora_weights": "gaussian",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return folder
