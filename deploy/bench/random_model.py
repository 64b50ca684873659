"""A random-weight model with the layers of Qwen2.5-0.5B, to measure arithmetic of that size."""

from __future__ import annotations

import shutil
from pathlib import Path

LAYERS = 8  # of 24: all layers are alike
VOCABULARY = 8192  # of 151,936: the output layer is not what is measured
SHAPE = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
"""Source: config.json of Qwen/Qwen2.5-0.5B."""


def write_random_model(folder: Path, tokenizer_from: Path, *, layers: int = LAYERS) -> Path:
    """Write the model, about 238 MB in fp16; the tokenizer is another model's.

    Matrices (out, in) are gaussian with variance 1/in, so that no activation runs away.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        **SHAPE,
        vocab_size=VOCABULARY,
        num_hidden_layers=layers,
        max_position_embeddings=1024,
        eos_token_id=2,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(0.0, weight.shape[1] ** -0.5)
    model.half().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer_from / name, folder / name)
    return folder
