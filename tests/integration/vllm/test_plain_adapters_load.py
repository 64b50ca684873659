"""Whatever upload is taken, vLLM and PEFT load it, and both read the same update in it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from support.odd_configs import CHANGES

from adapters.intake.plain import make_plain
from adapters.validate import BaseModel, read_base
from core.errors import Invalid

CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": "all-linear", "bias": "none",
}  # fmt: skip
KEYS = st.sampled_from(
    ["q_proj", "mlp.up_proj", "model.layers.1.mlp.up_proj", r".*\.layers\.0\..*", "k_proj|q_proj",
     r"layers\.\d\.self_attn\.[qk]_proj", "", "nothing"]
)  # fmt: skip
PATTERNS = st.fixed_dictionaries(
    {
        "rank_pattern": st.dictionaries(KEYS, st.integers(1, 16), max_size=3),
        "alpha_pattern": st.dictionaries(KEYS, st.sampled_from([1, 2.5, 16, 9_999.5]), max_size=3),
        "use_rslora": st.booleans(),
    }
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Llama of two layers, and the base as the server knows it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    shape = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(shape)
    model.save_pretrained(folder)
    return SimpleNamespace(model=model, base=read_base(str(folder)), folder=folder)


def folder_of(root: Path, base: BaseModel, config: dict[str, Any]) -> Path:
    """An upload whose ranks are what PEFT reads in its patterns."""
    from peft.utils.other import get_pattern_key

    root.mkdir(parents=True)
    pattern = config.get("rank_pattern")
    pattern = pattern if isinstance(pattern, dict) else {}
    tensors: dict[str, Any] = {}
    for module, (outputs, inputs) in base.shapes.items():
        if not module.endswith("_proj"):
            continue
        try:
            rank = pattern.get(get_pattern_key(list(pattern), module), 2)
        except Exception:  # no regular expression
            rank = 2
        rank = rank if type(rank) is int and 0 < rank <= 16 else 2
        stem = f"base_model.model.{module}"
        tensors[f"{stem}.lora_A.weight"] = np.full((rank, inputs), 0.5, np.float32)
        tensors[f"{stem}.lora_B.weight"] = np.full((outputs, rank), 0.25, np.float32)
    save_file(tensors, root / "adapter_model.safetensors")
    (root / "adapter_config.json").write_text(json.dumps(config))
    return root


def scalings_in_vllm(folder: Path) -> dict[str, float]:
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    helper = PEFTHelper.from_local_dir(str(folder), 128)
    helper.validate_legal(SimpleNamespace(max_lora_rank=16))  # type: ignore[arg-type]
    expected = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    model = LoRAModel.from_local_checkpoint(str(folder), expected, helper, device="cpu")
    return {name: float(layer.scaling) for name, layer in model.loras.items()}


def scalings_in_peft(folder: Path, tiny: Any) -> dict[str, float]:
    from peft import PeftModel
    from peft.tuners.lora import Linear

    model = PeftModel.from_pretrained(tiny.model, str(folder), is_trainable=True)
    try:
        layers = {n: m for n, m in model.base_model.model.named_modules() if isinstance(m, Linear)}
        assert all(bool((m.lora_B["default"].weight == 0.25).all()) for m in layers.values())
        return {name: float(layer.scaling["default"]) for name, layer in layers.items()}
    finally:
        tiny.model = model.unload()
        tiny.model.__dict__.pop("peft_config", None)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHANGES)
@example({"megatron_config": {"hidden_size": 4}})
@example({"eva_config": {"no_such": 1}, "lora_dropout": "a lot", "task_type": "poetry"})
def test_what_is_taken_loads_everywhere(
    tiny: Any, tmp_path_factory: pytest.TempPathFactory, changed: dict[str, Any]
) -> None:
    root = tmp_path_factory.mktemp("upload")
    upload, out = folder_of(root / "given", tiny.base, {**CONFIG, **changed}), root / "out"
    out.mkdir()
    try:
        make_plain(upload, out, tiny.base, max_rank=16)
    except Invalid:
        return
    assert scalings_in_vllm(out) == pytest.approx(scalings_in_peft(out, tiny))
    assert len(scalings_in_vllm(out)) == 14


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(PATTERNS)
def test_patterns_mean_what_they_meant_in_the_training(
    tiny: Any, tmp_path_factory: pytest.TempPathFactory, changed: dict[str, Any]
) -> None:
    root = tmp_path_factory.mktemp("upload")
    upload, out = folder_of(root / "given", tiny.base, {**CONFIG, **changed}), root / "out"
    out.mkdir()
    make_plain(upload, out, tiny.base, max_rank=16)
    meant = scalings_in_peft(upload, tiny)
    assert scalings_in_peft(out, tiny) == pytest.approx(meant)
    assert scalings_in_vllm(out) == pytest.approx(meant)
