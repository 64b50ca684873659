"""Base models of a few bytes: alike in shape, each with weights of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Q = "model.layers.0.self_attn.q_proj"


def write_base(folder: Path, fill: float = 1.0, **config: Any) -> Path:
    """A model's folder with one module, `Q`, of shape (6, 4), every weight of it `fill`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 4, **config}))
    save_file({f"{Q}.weight": np.full((6, 4), fill, np.float32)}, folder / "model.safetensors")
    return folder
