"""Values that stand in adapter_config.json files, sound and junk."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

FIELDS = (
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout",
    "fan_in_fan_out", "bias", "use_rslora", "modules_to_save", "init_lora_weights",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_config",
    "megatron_core", "trainable_token_indices", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config", "use_dora", "velora_config", "alora_invocation_tokens", "use_qalora",
    "qalora_group_size", "monteclora_config", "layer_replication", "runtime_config", "lora_bias",
    "target_parameters", "use_bdlora", "arrow_config", "kasa_config", "ensure_weight_tying",
    "vllm_lora_scaling_factor", "something_newer",
)  # fmt: skip

SCALARS: list[Any] = [
    None, True, False, 0, 1, 2, 4, 8, -1, 0.5, 1e308, 1e-320, 10**30, "", "2", "none", "all",
    "NaN", "q_proj", "all-linear", r".*q_proj", "(a+)+$", "[", "layers", "CAUSAL_LM", "gaussian",
    "pissa", "\u0000", "\ud800", "x" * 300,
]  # fmt: skip

VALUES = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([str(s) for s in SCALARS]), inner, max_size=3)
    ),
    max_leaves=4,
)

CHANGES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)
"""Fields of a configuration and what somebody put there."""
