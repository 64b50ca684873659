"""What a stranger's adapter_config.json says that its weights depend on. Reads; runs nothing.

Where an adapter applies is judged by its tensors, so `target_modules` and whatever else chooses
modules is only looked at, never run. Every other setting is named here: it changes the update and
is read, it changes it in a way the engine lacks and is refused, or it does not and is passed over.
Source: peft 0.21, LoraConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.lora_config import (
    ALPHAS,
    RANKS,
    is_alpha,
    is_rank,
    parse_config,
    require_plain_init,
    require_size,
)
from core.errors import Invalid

_READ = frozenset({
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "bias",
    "init_lora_weights", "target_modules",
})  # fmt: skip
# What to do about each: they change what the adapter computes, and the engine does not.
_REFUSED: Mapping[str, str] = {
    "use_dora": "train with use_dora=False",
    "lora_bias": "train with lora_bias=False",
    "modules_to_save": "train without it, with LoRA on those modules (name them in target_modules)",
    "layer_replication": "train without it, or serve the enlarged model as the base",
    "alora_invocation_tokens": "train without it",
    "use_bdlora": "train without it",
    "use_qalora": "train with use_qalora=False",
    "trainable_token_indices": "train without it",
    "target_parameters": "train with target_modules instead",
    "arrow_config": "train without it",
    "kasa_config": "train without it",
    "monteclora_config": "train without it",
}
# They say where the adapter was trained and how: the saved update is W + BA all the same.
_PASSED_OVER = frozenset({
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "exclude_modules", "lora_dropout", "fan_in_fan_out", "layers_to_transform",
    "layers_pattern", "megatron_config", "megatron_core", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "velora_config", "qalora_group_size", "runtime_config",
    "ensure_weight_tying", "enable_lora", "merge_weights",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claims:
    """What the update depends on besides its tensors."""

    rank: int
    alpha: float
    rslora: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    ties: bool
    """PEFT gives tied embeddings one update: that of the one counts for the other."""


def read_claims(raw: bytes) -> Claims:
    """Raises Invalid, naming the field and the edit that mends it."""
    config = parse_config(raw)
    if config.get("peft_type") != "LORA":
        raise Invalid(
            f"peft_type is {str(config.get('peft_type'))[:40]!r}; only LORA can be served. PEFT's "
            "save_as_lora converts most other methods.",
            param="config",
        )
    _refuse_features(config)
    require_plain_init(config)
    _require_targets(config.get("target_modules"))
    rslora = config.get("use_rslora", False)
    if not isinstance(rslora, bool | None):
        raise Invalid("adapter_config.json: use_rslora must be true or false.", param="use_rslora")
    require_size(config)
    return Claims(
        rank=config["r"],
        alpha=config["lora_alpha"],
        rslora=bool(rslora),
        ranks=_pattern(config, "rank_pattern", is_rank, RANKS),
        alphas=_pattern(config, "alpha_pattern", is_alpha, ALPHAS),
        ties=bool(config.get("ensure_weight_tying")),
    )


def _refuse_features(config: Mapping[str, Any]) -> None:
    for field, edit in _REFUSED.items():
        if config.get(field):
            raise Invalid(
                f"adapter_config.json sets {field}, which the engine cannot serve: {edit}.",
                param="config",
            )
    if config.get("bias", "none") != "none":
        raise Invalid('bias must be "none" to be served: train with bias="none".', param="config")
    for field in config.keys() - _READ - _PASSED_OVER - _REFUSED.keys():
        # What PEFT adds is switched on by true or by an object of its own.
        if config[field] is True or (isinstance(config[field], dict | list) and config[field]):
            raise Invalid(
                f"adapter_config.json sets '{field[:80]}', which this server does not know. If the "
                "weights are a plain LoRA all the same, remove it from adapter_config.json.",
                param="config",
            )


def _require_targets(targets: Any) -> None:
    names = [targets] if isinstance(targets, str) else targets
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Invalid(
            'target_modules must be a list of module names, a regular expression or "all-linear".',
            param="target_modules",
        )


def _pattern(
    config: Mapping[str, Any], field: str, fits: Callable[[Any], bool], what: str
) -> dict[str, Any]:
    pattern = config.get(field)
    if pattern is None:
        return {}
    if not isinstance(pattern, dict):
        raise Invalid(f"{field} must be an object of module names.", param=field)
    if not all(fits(value) for value in pattern.values()):
        raise Invalid(f"{field}: every value must be {what}.", param=field)
    return pattern
