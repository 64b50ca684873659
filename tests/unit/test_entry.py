"""The command's first step: `edge` loads nothing of the server, and a missing extra is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def attune(*arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command as installed, as if the packages `without` were not."""
    script = (
        "import sys\n"
        f"for name in {without!r}: sys.modules[name] = None\n"
        f"sys.argv = ['attune', *{arguments!r}]\n"
        "from deploy.cli.entry import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_missing_server_package_names_its_extra() -> None:
    done = attune("serve", without=("typer",))
    assert done.returncode == 1
    assert done.stderr == (
        "error: `attune serve` needs the package 'typer', which is not installed. Install the "
        "extra that brings it: pip install 'attune[server]'. Without it there is "
        "`attune edge --help`.\n"
    )


def test_a_missing_device_package_names_its_extra(tmp_path: Path) -> None:
    for package in ("onnxruntime_genai", "uvicorn"):
        done = attune("edge", "serve", str(tmp_path), without=(package,))
        assert done.returncode == 1
        assert f"the package '{package}'" in done.stderr
        assert "pip install 'attune[edge]'" in done.stderr


def test_edge_needs_none_of_the_servers_packages() -> None:
    server = ("typer", "rich", "msgspec", "fastapi", "sqlalchemy", "torch", "vllm")
    done = attune("edge", "info", "/nowhere", without=server)
    assert done.returncode == 1
    assert done.stderr.startswith("error: /nowhere holds no finished export")


def test_the_full_command_lists_edge_and_runs_it() -> None:
    listed = attune("--help")
    assert " edge " in listed.stdout
    assert "sync" in attune("edge", "--help").stdout
    script = (
        "import sys; sys.argv = ['attune', 'edge', 'info', '/nowhere']; from deploy.cli import app"
    )
    command = [sys.executable, "-c", f"{script}; app.main()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "holds no finished export" in done.stderr


def test_a_wrong_option_is_a_usage_error() -> None:
    done = attune("edge", "sync", "/nowhere")
    assert done.returncode == 2
    assert "--to" in done.stderr
