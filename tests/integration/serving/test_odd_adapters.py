"""Adapters as people really have them: what is served equals Transformers and PEFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file
from support.tenant import Tenant

from core.settings import SHIPPED_MODEL

Reference = Callable[[str, Path | None, int], str]
QUESTION = "Tell me about the sea."
TOKENS = 24
PREFIX = "base_model.model."

SHAPES: dict[str, dict[str, Any]] = {
    "a regular expression": {"target_modules": r".*\.layers\.[02]\.(self_attn\.q|mlp\.down)_proj"},
    "modules left out": {
        "target_modules": "all-linear",
        "exclude_modules": r".*layers\.[0-2]\..*",
    },
    "some layers": {
        "target_modules": ["v_proj", "up_proj"],
        "layers_to_transform": [1, 3],
        "layers_pattern": "layers",
    },
    "the embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "the tied head": {"target_modules": ["lm_head"]},
    "both ends": {"target_modules": ["embed_tokens", "lm_head", "o_proj"]},
    "rank-stabilised, by patterns": {
        "target_modules": "all-linear",
        "use_rslora": True,
        "rank_pattern": {r"layers\.[01]\..*\.(q|k)_proj": 2, "down_proj": 16},
        "alpha_pattern": {r".*\.layers\.3\..*": 3, "mlp.up_proj": 1.5},
    },
    "leftovers of a training": {
        "target_modules": ["q_proj"],
        "lora_dropout": 0.1,
        "fan_in_fan_out": True,
        "loftq_config": {},
        "init_lora_weights": "gaussian",
    },
}


def made(folder: Path, config: dict[str, Any], scale: float = 0.2, **saving: Any) -> Path:
    """The folder PEFT saves of a random adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    base = AutoModelForCausalLM.from_pretrained(SHIPPED_MODEL, dtype=torch.float32)
    config = {"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM", **config}
    model = get_peft_model(base, LoraConfig(**config))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                weight.normal_(0, scale)
            elif "lora_embedding_A" in name:
                weight.normal_(0, 0.1)
    model.save_pretrained(folder, **saving)
    return folder


def served(tenant: Tenant, folder: Path) -> str:
    """What the adapter of the folder answers."""
    pushed = tenant.push("odd", folder)
    assert pushed.status_code == 201, pushed.text
    return str(tenant.ask("odd", QUESTION, max_tokens=TOKENS).choices[0].message.content)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_answers_as_peft_does(
    tenant: Tenant, reference: Reference, tmp_path: Path, shape: str
) -> None:
    base = reference(QUESTION, None, TOKENS)
    for scale in (0.1, 0.3, 1.0, 3.0):  # until it tells the adapter from the base
        folder = made(tmp_path / f"{scale}", SHAPES[shape], scale)
        expected = reference(QUESTION, folder, TOKENS)
        if expected != base:
            break
    assert expected != base
    assert served(tenant, folder) == expected


def test_the_bases_own_weights_beside_the_adapter_say_nothing(
    tenant: Tenant, reference: Reference, tmp_path: Path
) -> None:
    folder = made(tmp_path / "adapter", {"target_modules": ["q_proj"]}, save_embedding_layers=True)
    assert any("lora_" not in name for name in load_file(folder / "adapter_model.safetensors"))
    assert served(tenant, folder) == reference(QUESTION, folder, TOKENS)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("lora_A.", "lora_A.default.").replace("B.w", "B.default.w"),
        lambda name: name.removeprefix(PREFIX),
        lambda name: PREFIX + name,
        lambda name: name.replace(PREFIX, PREFIX + "_orig_mod."),
        lambda name: name.replace(".self_attn", "._fsdp_wrapped_module.self_attn"),
        lambda name: "module." + name,
    ],
    ids=["adapter's name", "no prefix", "wrapped twice", "compiled", "FSDP", "DDP"],
)
def test_names_of_other_tools_mean_the_same(
    tenant: Tenant, reference: Reference, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    folder = made(tmp_path / "adapter", {"target_modules": ["q_proj", "v_proj"]})
    expected = reference(QUESTION, folder, TOKENS)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({rename(name): tensor for name, tensor in tensors.items()}, path)
    assert load_file(path).keys() != tensors.keys()
    assert served(tenant, folder) == expected
