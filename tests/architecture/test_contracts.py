"""Every import contract bites: one forbidden import planted in a copy of the tree breaks it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "adapters", "feedback", "trainer", "server", "deploy")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
NAMES = {contract.get("id", contract["name"]): contract["name"] for contract in CONTRACTS}

# (contract, the room that errs, what it imports). A room stands for its first module.
PLANTED = [
    ("packages", "server/door", "trainer.types"),
    ("packages", "core/errors.py", "adapters.types"),
    ("circles", "deploy/edge", "deploy.cli.app"),
    ("vllm", "core/errors.py", "vllm"),
    ("vllm", "adapters/types.py", "vllm.config"),
    ("vllm", "feedback/types.py", "vllm"),
    ("vllm", "trainer/model", "vllm"),
    ("vllm", "server/door", "vllm"),
    ("vllm", "deploy/bench", "vllm"),
    ("torch", "core/errors.py", "torch"),
    ("torch", "adapters/types.py", "torch"),
    ("torch", "feedback/types.py", "transformers"),
    ("torch", "trainer/runs", "trl"),
    ("torch", "server/routes", "peft"),
    ("torch", "deploy/cli", "datasets"),
    ("onnx", "trainer/model", "onnx"),
    ("onnx", "server/routes", "onnxruntime_genai"),
    ("onnx", "deploy/processes", "onnxruntime"),
    ("device", "deploy/edge", "core.settings"),
    ("sql", "trainer/runs", "sqlalchemy.orm"),
    ("sql", "server/answers", "sqlalchemy.exc"),
    ("core", "core/errors.py", "core.database"),
    ("adapters", "adapters/types.py", "adapters.registry"),
    ("feedback", "feedback/types.py", "feedback.store"),
    ("trainer", "trainer/model", "trainer.worker"),
    ("server", "server/engine", "server.routes"),
    ("deploy", "deploy/export", "deploy.cli.app"),
    ("door", "server/door/requests.py", "server.door.gateway"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product's code and its contracts, to plant in."""
    folder = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        only_code = shutil.ignore_patterns("model" if package == "deploy" else "", "__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=only_code)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def planted(copy: Path, room: str, imported: str) -> Iterator[Path]:
    """The copy with one import more."""
    path = copy / room
    if path.is_dir():
        path = sorted(path.glob("[!_]*.py"))[0]
    text = path.read_text()
    path.write_text(f"{text}\nimport {imported}\n")
    yield copy
    path.write_text(text)


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(folder), "COLUMNS": "200"}
    command = [str(Path(sys.executable).parent / "lint-imports"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60
    )


def test_the_packages_keep_their_import_contracts() -> None:
    done = lint(ROOT, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in done.stdout


def test_every_contract_is_seen_to_fail() -> None:
    assert {contract for contract, _, _ in PLANTED} == set(NAMES)


@pytest.mark.parametrize(("contract", "room", "imported"), PLANTED)
def test_a_forbidden_import_breaks_its_contract(contract: str, planted: Path) -> None:
    done = lint(planted)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^{re.escape(NAMES[contract])} BROKEN", done.stdout, re.M), done.stdout
