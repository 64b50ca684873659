"""Which adapters are in the engine, under load, failure, cancellation and no room."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from adapters.types import Version
from core.errors import AttuneError, NotFound, Unavailable
from core.ids import AdapterId, Digest
from server.engine.residency import Residency
from server.engine.slots import Slots


def version(number: int) -> Version:
    return Version(
        number, AdapterId("ada"), number, "live", Digest(f"{number:064x}"), 1, 8, ("q_proj",),
        "run", None, None, 0.0, "",
    )  # fmt: skip


async def settle(turns: int = 20) -> None:
    """Let every task run as far as it can without anything happening outside."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Engine:
    """An engine in memory that complains about every misuse the real one would die of."""

    def __init__(self) -> None:
        self.loaded: dict[int, str] = {}
        self.in_use: Counter[int] = Counter()
        self.loads: list[int] = []
        self.most = 0
        self.wrong: list[str] = []
        self.before_load: Callable[[int], Awaitable[None]] | None = None
        self.large: set[int] = set()
        self.absurd: set[int] = set()
        self.tried: list[int] = []

    async def answer(self, name: str, prompt_tokens: Sequence[int]) -> None:
        (number,) = [n for n, known in self.loaded.items() if known == name]
        self.tried.append(number)
        await asyncio.sleep(0)

    def is_large(self, engine_id: int) -> bool:
        return engine_id in self.large

    async def has_left_bounds(self, engine_id: int) -> bool:
        return engine_id in self.absurd

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        self.loads.append(engine_id)
        if self.before_load is not None:
            await self.before_load(engine_id)
        if engine_id in self.loaded:
            self.wrong.append(f"{engine_id} loaded twice")
        self.loaded[engine_id] = name
        self.most = max(self.most, len(self.loaded))

    async def unload(self, name: str, engine_id: int) -> None:
        if self.in_use[engine_id]:
            self.wrong.append(f"{engine_id} unloaded under {self.in_use[engine_id]} answers")
        if self.loaded.pop(engine_id, None) != name:
            self.wrong.append(f"{engine_id} unloaded but not there")
        await asyncio.sleep(0)


class House:
    """A residency with its engine, its reports and a clock-free way to use both."""

    def __init__(self, capacity: int = 2, slots: int | None = None, **options: float) -> None:
        self.engine = Engine()
        self.most_running = 0  # distinct adapters with answers under way
        self.reports: list[tuple[int, AttuneError | None]] = []
        self.fetch: Callable[[Digest], Path] = lambda digest: Path(f"/{digest}")
        self.residency = Residency(
            self.engine,
            lambda digest: self.fetch(digest),
            capacity=capacity,
            report=lambda v, error: self.reports.append((v.engine_id, error)),
            slots=None if slots is None else Slots(slots, patience_s=1.0),
            **options,
        )

    async def answer(self, number: int, until: asyncio.Event | None = None) -> None:
        async with self.residency.lease(f"n{number}", version(number)):
            assert number in self.engine.loaded
            self.engine.in_use[number] += 1
            self.most_running = max(self.most_running, sum(map(bool, self.engine.in_use.values())))
            try:
                await (until.wait() if until else asyncio.sleep(0))
                assert number in self.engine.loaded
            finally:
                self.engine.in_use[number] -= 1


async def test_requests_for_one_adapter_share_one_load() -> None:
    house = House()
    await asyncio.gather(*(house.answer(1) for _ in range(20)))
    assert house.engine.loads == [1]
    assert house.reports == [(1, None)]
    assert house.residency.resident == [1]


async def test_the_least_recently_used_leaves_first() -> None:
    house = House(capacity=2)
    for number in (1, 2, 1, 3):
        await house.answer(number)
    assert sorted(house.engine.loaded) == [1, 3]
    assert house.residency.resident == [1, 3]


async def test_more_adapters_at_once_than_places_take_turns() -> None:
    """Those still waiting to be loaded take no place: nobody is turned away."""
    house = House(capacity=2, room_timeout_s=5.0)
    await asyncio.wait_for(asyncio.gather(*(house.answer(n) for n in range(1, 9))), 4)
    assert house.engine.most <= 2
    assert house.engine.wrong == []


async def test_waiting_loads_do_not_empty_the_engine() -> None:
    """Three arrivals with three of four places idle and full: three leave, not more."""
    house = House(capacity=4)
    for number in (1, 2, 3, 4):
        await house.answer(number)
    held = asyncio.Event()
    tasks = [asyncio.create_task(house.answer(n, held)) for n in (5, 6)]
    await asyncio.to_thread(lambda: None)
    while len(house.engine.loads) < 6:
        await asyncio.sleep(0)
    await settle()
    assert sorted(house.engine.loaded) == [3, 4, 5, 6]
    held.set()
    await asyncio.gather(*tasks)


async def test_an_adapter_in_use_never_leaves_and_its_end_makes_room() -> None:
    house = House(capacity=1, room_timeout_s=5.0)
    held = asyncio.Event()
    first = asyncio.create_task(house.answer(1, held))
    while 1 not in house.engine.loaded:
        await asyncio.sleep(0)
    second = asyncio.create_task(house.answer(2))
    await settle()
    assert list(house.engine.loaded) == [1]
    held.set()
    await asyncio.gather(first, second)
    assert list(house.engine.loaded) == [2]
    assert house.engine.wrong == []


async def test_no_room_in_time_is_unavailable_and_nothing_leaks() -> None:
    house = House(capacity=1, room_timeout_s=0.05, retry_after_s=0.0)
    held = asyncio.Event()
    first = asyncio.create_task(house.answer(1, held))
    while 1 not in house.engine.loaded:
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="places are in use"):
        await house.answer(2)
    held.set()
    await first
    await house.answer(2)
    assert list(house.engine.loaded) == [2]


async def test_a_full_house_is_not_held_against_the_adapter() -> None:
    """Waiting in vain says nothing about the weights: no report, no time out of favour."""
    house = House(capacity=1, room_timeout_s=0.05, retry_after_s=3600.0)
    held = asyncio.Event()
    first = asyncio.create_task(house.answer(1, held))
    while 1 not in house.engine.loaded:
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await house.answer(2)
    assert house.reports == [(1, None)]
    held.set()
    await first
    await house.answer(2)


async def test_a_retired_version_is_freed_after_its_last_answer() -> None:
    house = House()
    held = asyncio.Event()
    running = [asyncio.create_task(house.answer(1, held)) for _ in range(2)]
    while house.engine.in_use[1] < 2:
        await asyncio.sleep(0)
    house.residency.retire(1)
    await settle()
    assert list(house.engine.loaded) == [1]
    held.set()
    await asyncio.gather(*running)
    await settle()
    assert house.engine.loaded == {}
    assert house.engine.wrong == []
    house.residency.retire(1)  # nothing there: nothing happens
    await house.answer(1)
    house.residency.retire(1)
    await settle()
    assert house.engine.loaded == {}


async def test_a_load_that_failed_is_refused_quickly_and_later_tried_again() -> None:
    house = House(retry_after_s=3600.0)
    refusal = Unavailable("no")

    async def refuse(_: int) -> None:
        raise refusal

    house.engine.before_load = refuse
    for _ in range(3):
        with pytest.raises(Unavailable):
            await house.answer(1)
    assert house.engine.loads == [1]
    assert house.reports == [(1, refusal)]
    house.engine.before_load = None
    with pytest.raises(Unavailable):
        await house.answer(1)
    await house.residency.preload("n1", version(1))  # a promotion asks at once
    await house.answer(1)
    assert house.engine.loads == [1, 1]
    patient = House(retry_after_s=0.0)
    patient.engine.before_load = refuse
    for _ in range(2):
        with pytest.raises(Unavailable):
            await patient.answer(1)
    assert patient.engine.loads == [1, 1]


async def test_all_who_wait_for_a_load_hear_of_its_failure() -> None:
    house = House()

    async def refuse(_: int) -> None:
        await settle(3)
        raise Unavailable("no")

    house.engine.before_load = refuse
    results = await asyncio.gather(*(house.answer(1) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert house.engine.loads == [1]
    assert house.residency.resident == []


@pytest.mark.parametrize(
    "error", [NotFound("gone from /srv/x"), OSError("disk"), RuntimeError("?")]
)
async def test_whatever_keeps_a_version_from_loading_the_client_hears_unavailable(
    error: Exception,
) -> None:
    """The version exists: its weights being gone is the server's trouble, not a 404."""
    house = House()

    def fetch(_: Digest) -> Path:
        raise error

    house.fetch = fetch
    for _ in range(2):
        with pytest.raises(Unavailable):
            await house.answer(1)
    assert len(house.reports) == 1
    assert house.engine.loads == []


async def test_the_cancelled_leader_of_a_load_does_not_fail_who_follows() -> None:
    house = House()
    began, go = asyncio.Event(), asyncio.Event()

    async def slow(_: int) -> None:
        began.set()
        await go.wait()

    house.engine.before_load = slow
    leader = asyncio.create_task(house.answer(1))
    await began.wait()
    followers = [asyncio.create_task(house.answer(1)) for _ in range(3)]
    await settle()
    leader.cancel()
    await settle()
    go.set()
    await asyncio.gather(*followers)
    assert leader.cancelled()
    assert house.engine.wrong == []
    assert list(house.engine.loaded) == [1]
    house.residency.retire(1)
    await settle()
    assert house.engine.loaded == {}  # no reference was left behind


async def test_a_cancelled_follower_leaves_no_reference() -> None:
    house = House()
    began, go = asyncio.Event(), asyncio.Event()

    async def slow(_: int) -> None:
        began.set()
        await go.wait()

    house.engine.before_load = slow
    leader = asyncio.create_task(house.answer(1))
    await began.wait()
    follower = asyncio.create_task(house.answer(1))
    await settle()
    follower.cancel()
    await settle()
    go.set()
    await leader
    house.residency.retire(1)
    await settle()
    assert house.engine.loaded == {}


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_leaks_and_nothing_breaks_in_a_random_drill(seed: int) -> None:
    """Requests for six adapters in three places, some cancelled, loads that fail, retirements.

    Afterwards every adapter can be retired: a reference left behind would keep it.
    """
    chance = random.Random(seed)
    house = House(capacity=3, slots=2, room_timeout_s=20.0, retry_after_s=0.0)

    async def moody(_: int) -> None:
        await settle(chance.randrange(3))
        if chance.random() < 0.1:
            raise Unavailable("moody")

    house.engine.before_load = moody

    async def ask() -> None:
        await settle(chance.randrange(30))
        await house.answer(chance.randrange(1, 7))

    async def cancel(task: asyncio.Task[None]) -> None:
        await settle(chance.randrange(60))
        task.cancel()

    async def retire() -> None:
        await settle(chance.randrange(60))
        house.residency.retire(chance.randrange(1, 7))

    asked = [asyncio.create_task(ask()) for _ in range(150)]
    others = [asyncio.create_task(cancel(t)) for t in asked if chance.random() < 0.3]
    others += [asyncio.create_task(retire()) for _ in range(30)]
    done = await asyncio.wait_for(asyncio.gather(*asked, *others, return_exceptions=True), 20)
    odd = [r for r in done if not isinstance(r, Unavailable | asyncio.CancelledError | None)]
    assert odd == []
    await settle(50)
    assert house.engine.wrong == []
    assert house.engine.most <= 3
    assert house.most_running <= 2
    assert sorted(house.residency.resident) == sorted(house.engine.loaded)
    for number in range(1, 7):
        house.residency.retire(number)
    async with asyncio.timeout(20):  # some leave by way of a thread
        while house.engine.loaded:
            await asyncio.sleep(0.001)


async def test_everybody_in_the_queue_of_a_full_engine_hears_within_one_timeout() -> None:
    """The wait for one's turn counts: ten requests do not wait ten timeouts."""
    house = House(capacity=1, room_timeout_s=0.3)
    over = asyncio.Event()
    busy = asyncio.create_task(house.answer(1, over))
    while 1 not in house.engine.loaded:
        await asyncio.sleep(0)
    waiting = [asyncio.create_task(house.answer(number)) for number in range(2, 12)]
    done, pending = await asyncio.wait(waiting, timeout=2.0)
    assert not pending
    assert all(isinstance(task.exception(), Unavailable) for task in done)
    over.set()
    await busy


async def test_no_more_adapters_answer_at_once_than_the_engine_has_slots() -> None:
    house = House(capacity=8, slots=2)
    held = asyncio.Event()
    tasks = [asyncio.create_task(house.answer(n, held)) for n in (1, 2, 3, 1, 4)]
    while house.engine.in_use[1] < 2:
        await asyncio.sleep(0)
    await asyncio.to_thread(lambda: None)
    await settle()
    assert dict(house.engine.in_use) == {1: 2, 2: 1}
    held.set()
    await asyncio.gather(*tasks)
    assert house.most_running == 2


async def test_who_only_counts_tokens_needs_no_slot() -> None:
    house = House(capacity=8, slots=1)
    held = asyncio.Event()
    busy = asyncio.create_task(house.answer(1, held))
    while not house.engine.in_use[1]:
        await asyncio.sleep(0)
    async with house.residency.lease("n2", version(2), generates=False):
        assert sorted(house.engine.loaded) == [1, 2]
    held.set()
    await busy


async def test_an_adapter_in_demand_that_made_room_comes_back_when_a_place_is_free() -> None:
    """A swap needs two places for a moment: 1, asked for twice, leaves for it and comes back."""
    house = House(capacity=2)
    for number in (1, 1, 2):
        await house.answer(number)
    await house.residency.preload("n3", version(3))
    assert sorted(house.engine.loaded) == [2, 3]
    house.residency.retire(2)
    while 1 not in house.engine.loaded:
        await asyncio.to_thread(lambda: None)
    assert sorted(house.engine.loaded) == [1, 3]
    house.residency.retire(3)
    await settle()
    assert sorted(house.engine.loaded) == [1]  # 3 was retired, 2 was asked for once


async def test_a_retired_version_does_not_come_back() -> None:
    house = House(capacity=1)
    for number in (1, 1, 2):
        await house.answer(number)
    assert sorted(house.engine.loaded) == [2]
    house.residency.retire(1)
    house.residency.retire(2)
    await settle()
    await asyncio.to_thread(lambda: None)
    await settle()
    assert house.engine.loaded == {}


async def test_an_adapter_asked_for_as_it_makes_room_is_loaded_anew() -> None:
    """Never handed out on its way out."""
    house = House(capacity=1)
    await house.answer(1)
    await asyncio.gather(*(house.answer(number) for number in (2, 1, 2, 1)))
    assert house.engine.wrong == []
    assert house.engine.most == 1
