"""Adapter folders: made to appear by rename, in one canonical form, and scaled exactly.

Owns what an adapter folder written here looks like: adapter_model.safetensors and
adapter_config.json, nothing else. Must not know: torch, methods.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from adapters.artifacts.digest import ADAPTER_FILES
from core.errors import Invalid
from core.files import appearing

CONFIG, WEIGHTS = ADAPTER_FILES


def scaled(adapter_dir: Path, factor: float, out: Path) -> Path:
    """The adapter with its whole update multiplied by `factor`, in `out`.

    Exact: only alpha changes, the weights are the same bytes. Raises Invalid for an adapter
    whose update is not proportional to alpha alone.
    """
    config = json.loads((adapter_dir / CONFIG).read_text())
    if factor <= 0:
        raise Invalid(f"An adapter can be scaled by a factor over 0, not by {factor:g}.")
    with appearing(out, replace=True) as scratch:
        shutil.copyfile(adapter_dir / WEIGHTS, scratch / WEIGHTS)
        config["lora_alpha"] = config["lora_alpha"] * factor
        patterns = config.get("alpha_pattern") or {}
        config["alpha_pattern"] = {name: alpha * factor for name, alpha in patterns.items()}
        write_config(scratch, config)
    return out


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the configuration in one canonical form, so that equal adapters are equal bytes.

    PEFT keeps target modules in a set, whose order differs from process to process.
    """
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
