"""Runs onnxruntime-genai's model builder on a Hugging Face folder: graph, tokenizer, settings.

Owns the builder's options per precision, the child process it runs in and the reading of its
complaints. Must not know what is done with the graph. Needs onnxruntime-genai, onnx and onnx-ir
in the environment; imports none of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from core.errors import Conflict, Invalid, Unavailable
from deploy.edge.manifest import Precision
from deploy.export.staging import disk_full

PACKAGES: Final = ("onnxruntime_genai", "onnxruntime", "onnx", "onnx_ir")
_MATCHING: Final = (
    "Llama, Qwen2, Qwen3, Mistral, Phi3, SmolLM3, Granite and LFM2 models are known to match"
)

RECIPES: Final[Mapping[Precision, Mapping[str, str]]] = {
    "fp32": {},
    "int8": {},
    "int4": {
        "algo_config": "k_quant",
        "matmul_mixed_precision": "last_matmul:int8,mixed_layers:int8",
    },
}
"""The builder's extra options per precision; they go into the manifest."""

_POLL_S = 0.5
_UNKNOWN_ARCHITECTURE = "is not currently supported"
_DISK_SIGNS = ("No space left on device", "File too large", "Disk quota exceeded")


def require_packages() -> None:
    """Raise Unavailable, naming what to install, unless the builder can run here."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise Unavailable(
            f"Exports need {', '.join(name.replace('_', '-') for name in missing)}, which this "
            "environment lacks: install Attune with the extra [server].",
            code="export_unavailable",
        )


def require_architecture(architecture: str) -> None:
    """Raise Invalid (code `unsupported_architecture`) for one the builder does not name.

    Whether it builds a named one rightly is for the verification to say. A builder that cannot
    be read is asked when it runs.
    """
    package = find_spec("onnxruntime_genai")
    folders = list(package.submodule_search_locations or ()) if package else []
    source = Path(folders[0]) / "models" / "builder.py" if folders else Path()
    if source.is_file():
        known = re.findall(r'architectures\[0\] == "(\w+)"', source.read_text(encoding="utf-8"))
        if known and architecture not in known:
            raise _unsupported(architecture)


def build(
    model: Path,
    out: Path,
    precision: Precision,
    options: Mapping[str, str],
    *,
    architecture: str,
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """Write the graph, genai_config.json, tokenizer and template of the model in `model` to `out`.

    `on_wait` is called about twice a second; what it raises ends the builder and is passed on.
    Raises Invalid (an architecture it cannot build, a model it fails on), Conflict (killed) and
    Unavailable (the disk is full, packages are missing).
    """
    require_packages()
    command = [sys.executable, "-m", "deploy.export.build_process"]
    command += ["-i", str(model), "-o", str(out), "-p", precision]
    command += ["-e", "cpu", "-c", str(out.parent / "cache")]
    if options:
        command += ["--extra_options", *(f"{name}={value}" for name, value in options.items())]
    with tempfile.TemporaryFile("w+") as log:
        status = _run(command, log.fileno(), on_wait)
        log.seek(0)
        text = log.read()
    if status != 0:
        raise _failure(status, text, architecture)
    if not (out / "model.onnx").is_file() or not (out / "genai_config.json").is_file():
        raise Invalid(
            f"The model builder wrote no graph for {architecture}; it cannot be exported.",
            param="model",
            code="export_failed",
        )


def _run(command: list[str], log: int, on_wait: Callable[[], None]) -> int:
    # Never the network: the model is a folder. The root of the packages goes along, so that the
    # child finds this one wherever it was started.
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
    ) as process:
        try:
            while True:
                try:
                    return process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    on_wait()
        finally:
            if process.poll() is None:
                process.kill()


def _unsupported(architecture: str) -> Invalid:
    return Invalid(
        f"Models of the architecture {architecture} cannot be exported: the model builder does "
        f"not know it. {_MATCHING}.",
        param="model",
        code="unsupported_architecture",
    )


def _failure(status: int, log: str, architecture: str) -> Exception:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = lines[-1][-300:] if lines else "it said nothing"
    if any(sign in log for sign in _DISK_SIGNS):
        return disk_full(last)
    if status < 0:
        return Conflict(
            f"The model builder was ended by signal {-status} (out of memory, perhaps). Export "
            "again.",
            code="export_interrupted",
        )
    if _UNKNOWN_ARCHITECTURE in last:
        return _unsupported(architecture)
    return Invalid(f"The model builder failed on this {architecture}: {last}", code="export_failed")
