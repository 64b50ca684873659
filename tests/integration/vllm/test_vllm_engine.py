"""What the engine says of adapters that may leave their bounds, on CPUs and on GPUs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import Unavailable
from server.vllm import adapters
from server.vllm.adapters import VllmEngine
from server.vllm.bounds.install import NOTE_SATURATED
from server.vllm.bounds.log import BoundsLog


class Client:
    """As much of vLLM's client as is asked: it answers, and its workers note what they flagged."""

    def __init__(self, log: BoundsLog) -> None:
        self.model_config = SimpleNamespace(max_model_len=64, get_vocab_size=lambda: 1000)
        self.asked: list[tuple[list[int], str]] = []
        self.calls: list[str] = []
        self.flagged: list[int] = []
        self.error: Exception | None = None
        self._log = log

    async def generate(
        self, prompt: Any, params: Any, request_id: str, *, lora_request: Any
    ) -> Any:
        if self.error is not None:
            raise self.error
        assert params.max_tokens == 1
        self.asked.append((prompt["prompt_token_ids"], lora_request.lora_name))
        yield None

    async def collective_rpc(self, method: str) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(method)
        for engine_id in self.flagged:
            self._log.note_saturated(engine_id)


class House:
    """An engine that has the adapter 7."""

    def __init__(self, folder: Path) -> None:
        self.log = BoundsLog(folder / "bounds")
        self.client = Client(BoundsLog(folder / "bounds"))
        models = SimpleNamespace(
            lora_requests={"t/support@1": SimpleNamespace(lora_name="t/support@1")},
            model_name=lambda request=None: "base",
        )
        self.engine = VllmEngine(self.client, models, self.log)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "current_platform", SimpleNamespace(is_cuda_alike=lambda: True))


async def test_a_trial_goes_through_the_vocabulary_and_no_longer_than_the_model(
    house: House,
) -> None:
    await house.engine.answer("t/support@1", (4, 128))
    (short, name), (long, _) = house.client.asked
    assert (short, name) == ([0, 250, 500, 750], "t/support@1")
    assert len(long) == 63
    assert len(set(long)) == 63


async def test_an_engine_that_fails_at_a_trial_is_unavailable(house: House) -> None:
    house.client.error = RuntimeError("a step failed")
    with pytest.raises(Unavailable, match="a step failed"):
        await house.engine.answer("t/support@1", (4,))


async def test_on_cpus_the_log_is_all_there_is_to_ask(house: House) -> None:
    house.log.note_large(7)
    assert not await house.engine.has_left_bounds(7)
    house.log.note_saturated(7)
    assert await house.engine.has_left_bounds(7)
    assert house.client.calls == []


@pytest.mark.usefixtures("on_gpu")
async def test_on_gpus_the_workers_are_asked_for_a_large_adapters_flags(house: House) -> None:
    house.log.note_large(7)
    assert not await house.engine.has_left_bounds(7)
    house.client.flagged = [7]
    assert await house.engine.has_left_bounds(7)
    assert house.client.calls == [NOTE_SATURATED] * 2


@pytest.mark.usefixtures("on_gpu")
async def test_on_gpus_an_ordinary_adapters_answer_asks_nobody(house: House) -> None:
    house.client.error = RuntimeError("not to be asked")
    assert not await house.engine.has_left_bounds(7)


@pytest.mark.usefixtures("on_gpu")
async def test_a_worker_that_cannot_tell_keeps_the_answer_back(house: House) -> None:
    house.log.note_large(7)
    house.client.error = RuntimeError("the engine is dead")
    with pytest.raises(Unavailable, match="dead"):
        await house.engine.has_left_bounds(7)
