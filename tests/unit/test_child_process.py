"""Children end with whoever started them, and the first run's commands can be pasted."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from core.errors import Invalid
from core.settings import SHIPPED_MODEL, Settings
from deploy.processes import supervisor

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_when_its_parent_is_killed(number: signal.Signals) -> None:
    child = "import time; print(1, flush=True); time.sleep(300)"
    parent = (
        "import signal, subprocess, sys\n"
        "from core.child_process import dying_with_parent\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}],\n"
        f"    preexec_fn=dying_with_parent(signal.Signals({number})), start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = {process.stdout.readline().strip() for _ in range(2)}  # in either order
        started = psutil.Process(int((lines - {"1"}).pop()))
        process.kill()
    assert psutil.wait_procs([started], timeout=20)[1] == []


def test_the_first_runs_commands_survive_any_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = """What's "six" in $HOME `dir` — and why\\n?"""
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps({"prompt": question, "must_contain": ["x"]}))
    messages = supervisor._example(Settings(regression_suite=str(suite)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        supervisor._announce("127.0.0.1", listening.getsockname()[1], "sk-at-1", messages)
    printed = capsys.readouterr().out.splitlines()
    curl = shlex.split(next(line for line in printed if line.startswith("curl")))
    body = json.loads(curl[curl.index("-d") + 1])
    assert body["messages"] == [{"role": "user", "content": question}]
    script = shlex.split(next(line for line in printed if line.startswith("python -c")))[2]
    assert question in [  # a literal of the compiled script
        constant
        for constant in compile(script, "pasted", "exec").co_consts
        if isinstance(constant, str)
    ]


def test_the_example_is_the_models_own_or_a_greeting(tmp_path: Path) -> None:
    (shipped,) = supervisor._example(Settings(model=str(SHIPPED_MODEL)))
    assert "booking T48" in shipped["content"]
    other = supervisor._example(Settings(model=str(tmp_path)))
    assert other == [{"role": "user", "content": "Say hello in one short sentence."}]
    (tmp_path / "regression.jsonl").write_text("{")
    assert supervisor._example(Settings(model=str(tmp_path))) == other


@pytest.mark.parametrize(("device", "seen", "expected"), [
    ("", None, "0"), ("cuda", None, "0"), ("cuda:1", None, "1"), ("cpu", None, ""),
    ("", "3,5", "3"), ("cuda:1", "3,5", "5"), ("cuda:1", "GPU-a,GPU-b", "GPU-b"), ("", "", ""),
])  # fmt: skip
def test_the_trainer_sees_the_gpu_it_is_to_use_as_its_only_one(
    monkeypatch: pytest.MonkeyPatch, device: str, seen: str | None, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen or "")  # what is set below is undone too
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    supervisor._see_one_gpu(device)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_a_gpu_that_the_trainer_is_not_shown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(Invalid, match="shows 2 GPUs"):
        supervisor._see_one_gpu("cuda:2")
    assert Settings(trainer_device="cuda:12").trainer_device == "cuda:12"
    with pytest.raises(ValidationError):
        Settings(trainer_device="gpu1")
