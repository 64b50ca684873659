"""A seed survives a prompt that is read in pieces, on CPUs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from server.vllm import cpu_seeds

HALF_READ, READ = 0, 1


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A runner whose batch has a request that is half read and one that is read; each draws."""

    def draw(self: Any) -> list[int]:
        drawn = self.input_batch.generators.items()
        return [int(torch.randint(0, 2**31, (1,), generator=each)) for _, each in sorted(drawn)]

    def set_back(self: Any) -> list[int]:
        """As vLLM does after each step."""
        for row in np.nonzero(self.discard_request_mask.np[:2])[0]:
            if (generator := self.input_batch.generators.get(int(row))) is not None:
                generator.set_offset(generator.get_offset() - 4)
        return sorted(self.input_batch.generators)

    monkeypatch.setattr(CPUModelRunner, "_sample", draw)
    monkeypatch.setattr(CPUModelRunner, "_bookkeeping_sync", set_back)
    made = CPUModelRunner.__new__(CPUModelRunner)
    generators = {row: torch.Generator().manual_seed(7) for row in (HALF_READ, READ)}
    vars(made)["input_batch"] = SimpleNamespace(generators=generators)
    vars(made)["discard_request_mask"] = SimpleNamespace(np=np.array([True, False, True]))
    return made


def test_a_generator_of_a_cpu_has_no_offset() -> None:
    """Once it has one, `cpu_seeds` can go."""
    with pytest.raises(RuntimeError, match="offset"):
        torch.Generator().get_offset()


def test_vllm_would_die_of_a_seed_and_a_prompt_half_read(runner: Any) -> None:
    runner._sample()
    with pytest.raises(RuntimeError, match="offset"):
        runner._bookkeeping_sync()


def test_what_is_dropped_is_drawn_again_and_nothing_else(runner: Any) -> None:
    assert cpu_seeds.install()
    assert cpu_seeds.install()
    first, seen = runner._sample(), runner._bookkeeping_sync()
    assert seen == [READ]
    assert sorted(runner.input_batch.generators) == [HALF_READ, READ]
    second = runner._sample()
    assert second[HALF_READ] == first[HALF_READ]
    assert second[READ] != first[READ]
    runner.discard_request_mask.np[HALF_READ] = False
    assert runner._sample()[HALF_READ] == first[HALF_READ]
    assert runner._sample()[HALF_READ] != first[HALF_READ]
