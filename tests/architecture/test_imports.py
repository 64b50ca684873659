"""What may load what: heavy libraries stay in leaf modules, packages form layers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.settings import Settings

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "vllm", "trl", "onnx", "transformers", "peft")
LOADED = f"import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"


@pytest.mark.parametrize(
    "module", ["deploy.cli.app", "core.settings", "server.routes", "deploy.kinds"]
)
def test_the_command_line_settings_and_routes_load_nothing_heavy(module: str) -> None:
    command = [sys.executable, "-c", f"import {module}; {LOADED}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "")


def test_the_packages_keep_their_import_contracts() -> None:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_says_what_it_is(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description is not None
    assert description.endswith(".")
    assert len(description) > 15


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_MAX_LORA_RANK", "64")
    monkeypatch.setenv("ATTUNE_NO_SUCH_SETTING", "1")
    assert Settings().max_lora_rank == 64
