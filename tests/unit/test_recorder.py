"""The recorder against a store that works, fails for a while, or fails for good."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from support.stored import count, stored_answer

from core.database import Database
from core.errors import Unavailable
from core.ids import AdapterId, CompletionId, TenantId
from feedback.interactions import InteractionStore
from feedback.tables import interactions
from feedback.types import Interaction
from server import metrics
from server.answers.recorder import Recorder

US = TenantId("ten_us")
COUNTED = ("attune_answers", "attune_adapter_answers", "attune_adapter_tokens")


def answer(number: int) -> Interaction:
    return Interaction(
        id=CompletionId(f"cmpl-{number}"),
        tenant_id=US,
        endpoint="completions",
        created_at_s=float(number),
        outcome="completed",
        model_requested="base",
        model_answered="base",
        adapter_id=None,
        version=None,
        explored=False,
        prompt="p",
        answers=("a",),
        finish_reason="stop",
    )


def build(number: int) -> Callable[[], Interaction]:
    return lambda: answer(number)


class Store:
    """Keeps batches in memory; `before` may block or raise. Idempotent by id, as the real one."""

    def __init__(self, before: Callable[[Sequence[Interaction]], None] = lambda _: None) -> None:
        self.before = before
        self.batches: list[list[str]] = []

    def append(self, batch: Sequence[Interaction]) -> None:
        self.before(batch)
        if batch:
            self.batches.append([interaction.id for interaction in batch])

    @property
    def ids(self) -> list[str]:
        return [one for batch in self.batches for one in batch]


def unreachable() -> Unavailable:
    return Unavailable("The database cannot be reached.")


@pytest.fixture
def recorders() -> Iterator[list[Recorder]]:
    """Whatever a test puts in here is closed after it."""
    made: list[Recorder] = []
    yield made
    for recorder in made:
        recorder.close()


async def test_every_acknowledged_commit_is_in_the_database(
    tmp_path: Path, recorders: list[Recorder]
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    database.upgrade()
    store = InteractionStore(database)
    recorder = Recorder(store.append)
    recorders.append(recorder)
    other = Database(database.url)  # sees only what is committed

    async def one(number: int) -> None:
        await recorder.commit(build(number))
        stored_answer(other, f"cmpl-{number}")

    await asyncio.gather(*(one(number) for number in range(50)))
    assert count(other, interactions, US) == 50
    database.dispose()


async def test_answers_that_wait_together_are_committed_together(
    recorders: list[Recorder],
) -> None:
    busy, go = threading.Event(), threading.Event()

    def hold(_: Sequence[Interaction]) -> None:
        busy.set()
        go.wait(10)

    store = Store(hold)
    recorder = Recorder(store.append)
    recorders.append(recorder)
    first = asyncio.create_task(recorder.commit(build(0)))
    await asyncio.to_thread(busy.wait, 10)
    rest = [asyncio.create_task(recorder.commit(build(n))) for n in range(1, 20)]
    await asyncio.sleep(0)
    assert not first.done()
    go.set()
    await asyncio.gather(first, *rest)
    assert store.batches == [["cmpl-0"], [f"cmpl-{n}" for n in range(1, 20)]]


async def test_nobody_is_told_before_the_commit_has_returned(recorders: list[Recorder]) -> None:
    busy, go = threading.Event(), threading.Event()

    def hold(_: Sequence[Interaction]) -> None:
        busy.set()
        go.wait(10)

    recorder = Recorder(Store(hold).append)
    recorders.append(recorder)
    waiting = asyncio.create_task(recorder.commit(build(0)))
    await asyncio.to_thread(busy.wait, 10)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    await waiting


async def test_a_database_that_comes_back_is_waited_for(recorders: list[Recorder]) -> None:
    failures = [unreachable(), OSError("disk"), unreachable()]

    def fail(_: Sequence[Interaction]) -> None:
        if failures:
            raise failures.pop()

    store = Store(fail)
    recorder = Recorder(store.append)
    recorders.append(recorder)
    await recorder.commit(build(1))
    assert (store.ids, failures) == (["cmpl-1"], [])


async def test_a_database_that_stays_away_withholds_the_answer(recorders: list[Recorder]) -> None:
    def fail(_: Sequence[Interaction]) -> None:
        raise unreachable()

    store = Store(fail)
    recorder = Recorder(store.append, give_up_s=0.1)
    recorders.append(recorder)
    with pytest.raises(Unavailable, match="try again"):
        await recorder.commit(build(1))
    store.before = lambda _: None
    await recorder.commit(build(2))
    assert store.ids == ["cmpl-2"]


async def test_the_time_in_the_queue_and_in_a_stuck_commit_counts(
    recorders: list[Recorder],
) -> None:
    """Each is told that much after its own end, and what nobody waits for any more is dropped."""
    busy, go = threading.Event(), threading.Event()

    def hang(_: Sequence[Interaction]) -> None:
        busy.set()
        go.wait(10)

    store = Store(hang)
    recorder = Recorder(store.append, give_up_s=0.3)
    recorders.append(recorder)

    async def seconds(number: int) -> float:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="withheld"):
            await recorder.commit(build(number))
        return time.monotonic() - began

    stuck = asyncio.create_task(seconds(0))
    await asyncio.to_thread(busy.wait, 10)
    queued = asyncio.create_task(seconds(1))
    waited = await asyncio.gather(stuck, queued)
    assert all(0.25 < waited_s < 2.0 for waited_s in waited)
    go.set()
    await recorder.commit(build(2))
    assert store.ids == ["cmpl-0", "cmpl-2"]


async def test_one_answer_no_database_takes_does_not_withhold_the_others(
    recorders: list[Recorder],
) -> None:
    """Such an answer fails for itself, at once: it must not stall what others wait for."""
    busy, go = threading.Event(), threading.Event()

    def fail(batch: Sequence[Interaction]) -> None:
        if not busy.is_set():
            busy.set()
            go.wait(10)
        if any(interaction.id == "cmpl-5" for interaction in batch):
            raise RecursionError("nested too deeply")

    store = Store(fail)
    recorder = Recorder(store.append, give_up_s=3600)
    recorders.append(recorder)
    first = asyncio.create_task(recorder.commit(build(0)))
    await asyncio.to_thread(busy.wait, 10)
    rest = [asyncio.create_task(recorder.commit(build(n))) for n in range(1, 9)]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.wait_for(asyncio.gather(first, *rest, return_exceptions=True), 10)
    assert [n for n, result in enumerate(results) if result is not None] == [5]
    assert isinstance(results[5], Unavailable)
    assert sorted(store.ids) == [f"cmpl-{n}" for n in range(9) if n != 5]


async def test_an_answer_that_cannot_be_read_fails_alone_and_kindly(
    recorders: list[Recorder],
) -> None:
    store = Store()
    recorder = Recorder(store.append)
    recorders.append(recorder)

    def broken() -> Interaction:
        raise KeyError("choices")

    results = await asyncio.gather(
        recorder.commit(build(1)),
        recorder.commit(broken),
        recorder.commit(build(2)),
        return_exceptions=True,
    )
    assert isinstance(results[1], Unavailable)
    assert (results[0], results[2]) == (None, None)
    assert sorted(store.ids) == ["cmpl-1", "cmpl-2"]


async def test_a_client_that_stopped_waiting_is_recorded_all_the_same(
    recorders: list[Recorder],
) -> None:
    go = threading.Event()
    store = Store(lambda _: void(go.wait(10)))
    recorder = Recorder(store.append)
    waiting = asyncio.create_task(recorder.commit(build(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    await asyncio.to_thread(recorder.close)
    assert store.ids == ["cmpl-1"]


def void(_value: object) -> None:
    """Nothing; for a call in a lambda whose answer is not wanted."""


def test_closing_commits_everything_submitted_before() -> None:
    store = Store()
    recorder = Recorder(store.append)
    for number in range(500):
        recorder.submit(build(number))
    recorder.close()
    assert store.ids == [f"cmpl-{n}" for n in range(500)]
    recorder.close()


async def test_after_closing_an_answer_is_refused_not_forgotten() -> None:
    recorder = Recorder(Store().append)
    recorder.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(recorder.commit(build(1)), 5)
    recorder.submit(build(2))  # nobody waits; it must only not raise


def test_a_loop_that_is_gone_does_not_end_the_recorder() -> None:
    """The thread outlives the loop of whoever waited; what comes after is still committed."""
    busy, go = threading.Event(), threading.Event()

    def hold(_: Sequence[Interaction]) -> None:
        busy.set()
        go.wait(10)

    store = Store(hold)
    recorder = Recorder(store.append)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(recorder.commit(build(1)))
    loop.run_until_complete(asyncio.sleep(0))
    busy.wait(10)
    waiting.cancel()
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()
    go.set()
    recorder.submit(build(2))
    recorder.close()
    assert store.ids == ["cmpl-1", "cmpl-2"]


async def test_recorded_answers_are_counted_by_tenant_and_adapter_without_a_series_for_each(
    recorders: list[Recorder],
) -> None:
    """Those without a series of their own are counted too, together."""
    recorder = Recorder(Store().append)
    recorders.append(recorder)
    count = metrics.NAMED + 20
    before = {name: _total(name) for name in COUNTED}
    for number in range(count):
        given = replace(
            answer(number),
            tenant_id=TenantId(f"ten_{number}"),
            model_answered="support@1",
            adapter_id=AdapterId("a"),
            version=1,
            prompt_tokens=5,
            completion_tokens=2,
        )
        await recorder.commit(lambda given=given: given)  # type: ignore[misc]
    recorder.close()  # counting comes after those who wait have been told
    grown = [_total(name) - before[name] for name in COUNTED]
    assert grown == [count, count, 7 * count]
    by_tenant, by_adapter = (
        {sample.labels["tenant"] for sample in metric.samples if sample.name.endswith("_total")}
        for name in ("attune_answers", "attune_adapter_answers")
        for metric in REGISTRY.collect()
        if metric.name == name
    )
    assert len(by_tenant) == metrics.NAMED + 1
    assert 1 < len(by_adapter) <= metrics.NAMED + 1
    assert metrics.OTHER in by_tenant & by_adapter


def _total(name: str) -> float:
    (metric,) = (metric for metric in REGISTRY.collect() if metric.name == name)
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


async def test_answers_are_read_and_stored_outside_the_event_loop(
    recorders: list[Recorder],
) -> None:
    threads: list[str] = []
    recorder = Recorder(Store(lambda _: threads.append(threading.current_thread().name)).append)
    recorders.append(recorder)

    def noting() -> Interaction:
        threads.append(threading.current_thread().name)
        return answer(1)

    await recorder.commit(noting)
    assert threads == ["attune-recorder"] * 2
