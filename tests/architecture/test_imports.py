"""What may load what: heavy libraries stay in leaf modules, packages form layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "vllm", "trl", "onnx", "transformers", "peft")
LOADED = f"import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"


def loaded_by(module: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import {module}; {LOADED}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_a_heavy_library_is_seen_when_it_is_loaded() -> None:
    assert loaded_by("deploy.export.graph").stdout.strip() == "onnx"


@pytest.mark.parametrize(
    "module", ["deploy.cli.app", "core.settings", "server.routes", "deploy.kinds"]
)
def test_the_command_line_settings_and_routes_load_nothing_heavy(module: str) -> None:
    done = loaded_by(module)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "")
