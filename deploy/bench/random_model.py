"""A random-weight model with the layers of Qwen2.5-0.5B, to measure arithmetic of that size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

LAYERS = 8  # of 24: all layers are alike
VOCABULARY = 8192  # of 151,936: the output layer is not what is measured
HIDDEN, INTERMEDIATE, HEAD, HEADS, KV_HEADS = 896, 4864, 64, 14, 2
"""Source: config.json of Qwen/Qwen2.5-0.5B."""


def write_random_model(folder: Path, tokenizer_from: Path, *, layers: int = LAYERS) -> Path:
    """Write the model, about 238 MB in fp16; the tokenizer is another model's.

    Matrices (out, in) are gaussian with variance 1/in, so that no activation runs away.
    """
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    def matrix(name: str, out_dim: int, in_dim: int) -> None:
        weight = rng.standard_normal((out_dim, in_dim), dtype=np.float32) * in_dim**-0.5
        tensors[f"{name}.weight"] = weight.astype(np.float16)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = np.ones(HIDDEN, np.float16)

    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name, out_dim in (("q", HEADS * HEAD), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)):
            matrix(f"{at}.self_attn.{name}_proj", out_dim, HIDDEN)
            tensors[f"{at}.self_attn.{name}_proj.bias"] = np.zeros(out_dim, np.float16)
        matrix(f"{at}.self_attn.o_proj", HIDDEN, HEADS * HEAD)
        matrix(f"{at}.mlp.gate_proj", INTERMEDIATE, HIDDEN)
        matrix(f"{at}.mlp.up_proj", INTERMEDIATE, HIDDEN)
        matrix(f"{at}.mlp.down_proj", HIDDEN, INTERMEDIATE)
        norm(f"{at}.input_layernorm")
        norm(f"{at}.post_attention_layernorm")
    matrix("model.embed_tokens", VOCABULARY, HIDDEN)
    norm("model.norm")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_config(layers), indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer_from / name, folder / name)
    return folder


def _config(layers: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "dtype": "float16",
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": layers,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "eos_token_id": 2,
        "bos_token_id": None,
    }
