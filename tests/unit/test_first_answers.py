"""The time from feedback to the first answer of what was learnt from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from prometheus_client import REGISTRY

from adapters.types import Version
from core.errors import NotFound
from core.ids import AdapterId, Digest, RunId
from server.answers.first_answers import FirstAnswers

LEARNT = Version(
    7, AdapterId("a"), 1, "live", Digest("0" * 64), 1, 4, ("q_proj",), "run", "run_1", None, 0.0, ""
)


def measured() -> tuple[float, float]:
    """How many, and their sum in seconds."""
    name = "attune_feedback_to_served_seconds"
    return tuple(REGISTRY.get_sample_value(f"{name}_{of}") or 0.0 for of in ("count", "sum"))  # type: ignore[return-value]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_only_the_first_answer_of_a_version_from_a_run_is_measured() -> None:
    count, total = measured()
    asked: list[RunId] = []

    def newest_feedback_at_s(run_id: RunId) -> float:
        asked.append(run_id)
        return 0.0  # 1970: whatever the clock says, it was long ago

    first = FirstAnswers(newest_feedback_at_s)
    first.expect(LEARNT)
    first.expect(replace(LEARNT, engine_id=8, run_id=None))
    for _ in range(3):
        first.given_by(LEARNT)
        first.given_by(replace(LEARNT, engine_id=8, run_id=None))
        first.given_by(replace(LEARNT, engine_id=9))  # never became live here
    await until(lambda: measured()[0] > count)
    assert measured()[0] == count + 1
    assert measured()[1] > total + 1e9
    assert asked == ["run_1"]


async def test_a_run_that_cannot_be_read_measures_nothing_and_harms_nobody() -> None:
    count, _ = measured()
    asked: list[RunId] = []

    def gone(run_id: RunId) -> float:
        asked.append(run_id)
        raise NotFound("no such run")

    first = FirstAnswers(gone)
    first.expect(LEARNT)
    first.given_by(LEARNT)
    await until(lambda: bool(asked))
    assert measured()[0] == count
