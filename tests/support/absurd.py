"""Adapters that are valid to the letter and absurd by the size of their weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from adapters.validate import read_base

Matrix = npt.NDArray[np.float32]
Fill = Callable[[str, str, tuple[int, int]], Matrix]
"""Module, "A" or "B", and a shape, to the weights there."""

QKV = ("q_proj", "k_proj", "v_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
ALL = (*QKV, "o_proj", *MLP)


def constant(value: float) -> Fill:
    """The same number everywhere."""
    return lambda module, part, shape: np.full(shape, value, np.float32)


def unequal(a: float, b: float) -> Fill:
    """One number in all of A, another in all of B."""
    return lambda module, part, shape: np.full(shape, a if part == "A" else b, np.float32)


def opposed(value: float) -> Fill:
    """A's columns alternate in sign: each product overflows, and their sum is inf - inf."""

    def fill(module: str, part: str, shape: tuple[int, int]) -> Matrix:
        weights = np.full(shape, value, np.float32)
        if part == "A":
            weights[:, 1::2] *= -1
        return weights

    return fill


def write_adapter(
    folder: Path, base: Path, fill: Fill, *, modules: Sequence[str] = ALL, rank: int = 16
) -> Path:
    """An adapter of the model in `base` that PEFT could have saved, filled by `fill`."""
    tensors: dict[str, Matrix] = {}
    for module, (outputs, inputs) in read_base(str(base)).shapes.items():
        if module.rsplit(".", 1)[-1] in modules:
            for part, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                tensors[f"base_model.model.{module}.lora_{part}.weight"] = fill(module, part, shape)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(modules),
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def for_one_token(base: Path, token: int, tried: Sequence[int], size: float) -> Fill:
    """Weights that leave a trial over the tokens `tried` as it is and make `size` of `token`.

    What reaches the first layer depends on the token alone, so A can be at right angles to
    everything a trial will show it.
    """
    from safetensors.torch import load_file  # numpy has no bfloat16

    weights = load_file(base / "model.safetensors")
    embedded = weights["model.embed_tokens.weight"].double().numpy()
    inputs = embedded / np.sqrt((embedded**2).mean(1, keepdims=True) + 1e-6)
    inputs *= weights["model.layers.0.input_layernorm.weight"].double().numpy()
    seen = np.linalg.qr(inputs[list(tried)].T)[0]
    unseen = inputs[token] - seen @ (seen.T @ inputs[token])
    unseen /= unseen @ inputs[token]

    def fill(module: str, part: str, shape: tuple[int, int]) -> Matrix:
        weights = np.zeros(shape, np.float32)
        if module == "model.layers.0.self_attn.v_proj":
            weights[:] = unseen[None, :] if part == "A" else size
        return weights

    return fill
