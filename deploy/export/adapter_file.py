"""From a PEFT adapter folder to an `.onnx_adapter` file, and the template the builder needs.

Owns reading PEFT's weights and configuration and folding the scaling into B. Must not know how
the graph was made. Loads torch (for bfloat16) and onnxruntime.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from safetensors import safe_open
from safetensors.numpy import save_file

from adapters.tensors import read_header
from adapters.validate import BaseModel, validate_adapter, value_of
from core.errors import Invalid
from deploy.export.graph import Slot, graph_module

_WEIGHT = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
_ANY_RANK = 1 << 16
# Linear layers inside a block. Adapters of embeddings or the output layer are not among them:
# where the two are tied, merging one changes the other.
_BLOCK = re.compile(r".*\.layers\.\d+\..+")

Matrices = dict[str, tuple[np.ndarray, np.ndarray]]


def carried_modules(base: BaseModel, names: frozenset[str]) -> list[str]:
    """The block modules of `base` whose last name is in `names`, in the model's order."""
    return [
        module
        for module in base.shapes
        if module.rsplit(".", 1)[-1] in names and _BLOCK.fullmatch(module)
    ]


def check_adapter(folder: Path, base: BaseModel) -> int:
    """Refuse what the server would refuse or what an export cannot carry; the largest rank.

    Raises Invalid naming the module or the setting, NotFound for a missing file.
    """
    info = validate_adapter(folder, base, max_rank=_ANY_RANK)
    for name in read_header(folder / "adapter_model.safetensors"):
        match = _WEIGHT.fullmatch(name)
        if match is None or not _BLOCK.fullmatch(match["module"]):
            raise Invalid(
                f"The adapter changes '{name[:120]}': an export carries adapters of the linear "
                "layers of the model's blocks only, not of embeddings or the output layer.",
                param="adapter",
                code="unsupported_adapter",
            )
    return info.rank


def read_matrices(folder: Path) -> Matrices:
    """Per module A (rank, in) and B (out, rank) in float32, B multiplied by the scaling.

    The scaling is alpha / rank, or alpha / sqrt(rank) with rsLoRA, with the module's own alpha
    and rank. The folder must have passed `check_adapter`. Source: peft 0.21, LoraLayer.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    parts: dict[str, dict[str, np.ndarray]] = {}
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118  (safe_open is no mapping)
            match = _WEIGHT.fullmatch(name)
            if match is not None:
                array = file.get_tensor(name).float().numpy()
                parts.setdefault(match["module"], {})[match["part"]] = array
    return {
        module: (found["A"], found["B"] * np.float32(_scaling(module, found["A"], config)))
        for module, found in parts.items()
    }


def write_onnx_adapter(path: Path, matrices: Matrices, slots: Mapping[str, Slot]) -> None:
    """Write `matrices` for a graph with `slots` (by the graph's module names).

    Raises Invalid for a module without a slot, or of other shape, and OSError if what was
    written cannot be read back.
    """
    carried = sorted({module.rpartition(".")[2] for module in slots})
    parameters: dict[str, np.ndarray] = {}
    for module, (a, b) in matrices.items():
        slot = slots.get(graph_module(module))
        if slot is None:
            raise Invalid(
                f"The adapter changes '{module[:120]}', which the exported base cannot exchange: "
                f"it carries adapters of {', '.join(carried)}. Export it with --layout merged.",
                param="adapter",
                code="unsupported_adapter",
            )
        if (a.shape[1], b.shape[0]) != (slot.in_features, slot.out_features):
            raise Invalid(
                f"The adapter's '{module[:120]}' maps {a.shape[1]} to {b.shape[0]} features, the "
                f"exported base {slot.in_features} to {slot.out_features}: another base model.",
                param="adapter",
                code="other_base",
            )
        parameters[slot.a] = np.ascontiguousarray(a.T)
        parameters[slot.b] = np.ascontiguousarray(b.T)
    file = ort.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(
        {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in parameters.items()}
    )
    try:
        file.export_adapter(str(path.resolve()))
        written = ort.AdapterFormat.read_adapter(str(path.resolve())).get_parameters()
    except RuntimeError as error:
        # The library neither says why a write failed nor notices that one was cut short.
        raise OSError(f"{path} could not be written: {error}") from error
    if written.keys() != parameters.keys():
        raise OSError(f"{path} was cut short while it was written")


def write_template(folder: Path, base: BaseModel, modules: list[str]) -> Path:
    """An adapter of rank 1 over `modules`, all zeros: it makes the builder leave slots for them."""
    tensors = {
        f"base_model.model.{module}.lora_{part}.weight": np.zeros(shape, np.float32)
        for module in modules
        for part, shape in (("A", (1, base.shapes[module][1])), ("B", (base.shapes[module][0], 1)))
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": 1,
        "lora_alpha": 1,
        "target_modules": sorted({module.rsplit(".", 1)[-1] for module in modules}),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _scaling(module: str, a: np.ndarray, config: Mapping[str, Any]) -> float:
    rank = a.shape[0]
    alpha = float(value_of("lora_alpha", "alpha_pattern", module, config))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
