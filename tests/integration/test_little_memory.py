"""Memory that runs out in the middle of a training, by a real limit on a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_training_that_runs_out_of_memory_goes_on_in_smaller_parts_and_learns_the_same(
    tmp_path: Path,
) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.support.little_memory", str(tmp_path)],
        # Every larger tensor is given back when it is freed, so that a limit is felt at once.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(child.stdout.splitlines()[-1])
    assert any("Memory ran out; going on with" in line for line in found["said"])
    assert len(found["limited"]) == 4
    assert found["limited"] == pytest.approx(found["free"], abs=1e-5)
