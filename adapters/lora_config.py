"""What of an adapter_config.json every reader must take alike: its size, its rank, its alpha. Pure.

Shared by the door to the engine (`adapters.validate`) and by what makes uploads plain
(`adapters.intake`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import Invalid
from core.strict_json import parse_object, require_small

MOST_BYTES = 1_000_000
MOST_ALPHA = 10_000
ALPHAS = f"a number over 0 and at most {MOST_ALPHA:,}"
RANKS = "a whole number, 1 or more"
_MOST_ITEMS = 10_000
_MOST_CHARACTERS = 10_000
_MOST_DEPTH = 16

# These only choose starting values, so a saved adapter is a plain LoRA. The others (PiSSA,
# OLoRA, CorDA, LoftQ) change the base weights. Source: vLLM 0.32, lora/peft_helper.py.
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")


def parse_config(raw: bytes) -> dict[str, Any]:
    """The object in `raw`. Raises Invalid if it is none, or larger than any that is real."""
    if len(raw) > MOST_BYTES:
        raise Invalid(
            f"adapter_config.json is over {MOST_BYTES:,} bytes; PEFT writes a few thousand.",
            param="config",
        )
    try:
        config = parse_object(raw)
        require_small(config, depth=_MOST_DEPTH, items=_MOST_ITEMS, characters=_MOST_CHARACTERS)
    except ValueError as error:
        raise Invalid(
            f"adapter_config.json is not one plain JSON object: {str(error)[:200]}.",
            param="config",
        ) from error
    return config


def is_rank(value: Any) -> bool:
    """Whether it is a rank."""
    return type(value) is int and value >= 1


def is_alpha(value: Any) -> bool:
    """Whether it is an alpha. NaN fails every comparison; the bound keeps half precision finite."""
    return type(value) in (int, float) and 0 < value <= MOST_ALPHA


def require_size(config: Mapping[str, Any]) -> None:
    """Raises Invalid unless `r` and `lora_alpha` are what they must be."""
    if not is_rank(config.get("r")):
        raise Invalid(f"adapter_config.json: r must be {RANKS}.", param="r")
    if not is_alpha(config.get("lora_alpha")):
        raise Invalid(f"adapter_config.json: lora_alpha must be {ALPHAS}.", param="lora_alpha")


def require_plain_init(config: Mapping[str, Any]) -> None:
    """Raises Invalid if the base weights were changed before the training."""
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        raise Invalid(
            f"init_lora_weights={init[:40]!r} changes the base weights; convert the adapter to a "
            "plain LoRA first (PEFT: path_initial_model_for_weight_conversion).",
            param="config",
        )
    if not isinstance(init, str | bool | None):
        raise Invalid("init_lora_weights must be true, false or a name.", param="config")
