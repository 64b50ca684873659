"""Slots for adapters: nothing is paid without a crowd, and nobody starves in one."""

from __future__ import annotations

import asyncio
import random

import pytest

from core.errors import Unavailable
from server.engine.slots import Slots


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Engine:
    """Answers that end when told to, behind slots; `entered` is who was let in, in order."""

    def __init__(self, slots: int = 2, patience_s: float = 1.0, timeout_s: float = 3600.0) -> None:
        self.clock = Clock()
        self.slots = Slots(slots, patience_s=patience_s, timeout_s=timeout_s, clock=self.clock)
        self.entered: list[str] = []
        self.numbers: dict[str, int] = {}

    def ask(self, name: str) -> asyncio.Task[None]:
        """Ask for the adapter of the name's first letter."""
        return asyncio.create_task(self._ask(name))

    async def _ask(self, name: str) -> None:
        if not self.slots.take(ord(name[0])):
            await self.slots.wait(ord(name[0]))
        self.entered.append(name)

    def end(self, *names: str) -> None:
        for name in names:
            self.slots.leave(ord(name[0]))

    async def asked(self, *names: str) -> list[asyncio.Task[None]]:
        tasks = [self.ask(name) for name in names]
        await settle()
        return tasks


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_up_to_as_many_adapters_as_slots_nobody_ever_waits() -> None:
    """`take` is a plain call: no event loop runs here at all."""
    slots = Slots(2, patience_s=1.0, clock=Clock())
    assert all(slots.take(adapter) for adapter in (1, 2) * 500)
    assert slots.running == {1: 500, 2: 500}
    for adapter in (1, 2) * 500:
        slots.leave(adapter)
    assert slots.running == {}
    assert slots.waiting == 0


async def test_one_adapter_more_than_slots_waits_for_a_slot() -> None:
    engine = Engine()
    await engine.asked("a1", "b1", "c1")
    assert engine.entered == ["a1", "b1"]
    engine.end("a1")
    await settle()
    assert engine.entered == ["a1", "b1", "c1"]


async def test_the_oldest_waiter_enters_first_and_brings_its_adapters_others() -> None:
    engine = Engine()
    await engine.asked("a1", "b1", "c1", "d1", "c2")
    engine.end("a1")
    await settle()
    assert engine.entered == ["a1", "b1", "c1", "c2"]


async def test_within_the_patience_requests_join_an_adapter_that_runs() -> None:
    engine = Engine()
    await engine.asked("a1", "b1", "c1")
    engine.clock.now_s = 0.9
    await engine.asked("a2", "b2")
    assert engine.entered == ["a1", "b1", "a2", "b2"]


async def test_past_the_patience_the_adapter_with_the_fewest_answers_drains() -> None:
    """b has one answer under way and a two: b2 waits behind c1, a3 does not."""
    engine = Engine()
    await engine.asked("a1", "a2", "b1", "c1")
    engine.clock.now_s = 1.0
    await engine.asked("b2", "a3")
    assert engine.entered == ["a1", "a2", "b1", "a3"]
    engine.end("b1")
    await settle()
    assert engine.entered[-1] == "c1"
    assert engine.slots.waiting == 1
    engine.end("c1")
    await settle()
    assert engine.entered[-1] == "b2"


async def test_a_slot_that_comes_free_elsewhere_ends_the_draining() -> None:
    engine = Engine()
    await engine.asked("a1", "a2", "b1", "b2", "b3", "c1")
    engine.clock.now_s = 1.0
    await engine.asked("a3")
    assert engine.slots.waiting == 2
    engine.end("b1", "b2", "b3")
    await settle()
    assert engine.entered[-2:] == ["c1", "a3"]
    assert engine.slots.waiting == 0


async def test_a_long_answer_holds_nobody_up_for_long() -> None:
    """a drains first but does not end; after a second patience b drains too, and ends."""
    engine = Engine()
    await engine.asked("a1", "b1", "b2", "c1")
    engine.clock.now_s = 1.5
    await engine.asked("a2", "b3")
    assert engine.entered == ["a1", "b1", "b2", "b3"]
    engine.clock.now_s = 2.0
    await engine.asked("b4")
    engine.end("b1", "b2", "b3")
    await settle()
    assert engine.entered == ["a1", "b1", "b2", "b3", "c1", "a2"]


async def test_who_gives_up_leaves_no_trace_and_wakes_those_kept_back() -> None:
    engine = Engine()
    *_, waiting = await engine.asked("a1", "b1", "b2", "c1")
    engine.clock.now_s = 1.0
    await engine.asked("a2")
    assert engine.slots.waiting == 2
    waiting.cancel()
    await settle()
    assert engine.entered == ["a1", "b1", "b2", "a2"]
    engine.end("a1", "a2", "b1", "b2")
    assert engine.slots.running == {}


async def test_an_adapters_place_in_the_queue_is_that_of_its_oldest_waiter_left() -> None:
    engine = Engine()
    _, _, first = await engine.asked("a1", "b1", "c1")
    engine.clock.now_s = 0.1
    await engine.asked("d1")
    engine.clock.now_s = 0.2
    await engine.asked("c2")
    first.cancel()
    await settle()
    engine.end("a1")
    await settle()
    assert engine.entered == ["a1", "b1", "d1"]


async def test_who_gives_up_while_being_let_in_hands_the_slot_on() -> None:
    engine = Engine()
    *_, c, _ = await engine.asked("a1", "b1", "c1", "d1")
    engine.end("a1")
    c.cancel()
    await settle()
    assert engine.entered == ["a1", "b1", "d1"]
    engine.end("d1", "b1")
    assert engine.slots.running == {}


async def test_a_wait_is_bounded_and_says_what_to_do() -> None:
    engine = Engine(slots=1, timeout_s=0.01)
    *_, waiting = await engine.asked("a1", "b1")
    await asyncio.wait([waiting])
    with pytest.raises(Unavailable, match="ATTUNE_MAX_LORAS"):
        waiting.result()
    assert engine.slots.waiting == 0


async def crowd(patience_s: float, seed: int, ticks: int = 600) -> tuple[Engine, dict[str, int]]:
    """Two hot adapters, asked for in every tick and answered in three, and now and then one of
    five cold ones, on two slots; the ticks each request waited, for those that entered."""
    chance = random.Random(seed)
    engine = Engine(slots=2, patience_s=patience_s)
    began: dict[str, int] = {}
    waits: dict[str, int] = {}
    running: list[tuple[int, str]] = []
    for tick in range(ticks):
        engine.clock.now_s = float(tick)
        names = [f"a{tick}", f"b{tick}"]
        if chance.random() < 0.02:
            names.append(f"{chance.choice('cdefg')}{tick}")
        began |= dict.fromkeys(names, tick)
        for name in names:
            engine.ask(name)
        for _ in range(4):
            await asyncio.sleep(0)
        for name in engine.entered:
            waits[name] = tick - began[name]
            running.append((tick + 3, name))
        engine.entered.clear()
        assert len(engine.slots.running) <= 2
        engine.end(*(name for until, name in running if until == tick))
        running = [(until, name) for until, name in running if until != tick]
    return engine, waits


@pytest.mark.parametrize("seed", range(3))
async def test_a_hot_set_cannot_starve_the_rest(seed: int) -> None:
    """Every cold request enters within two patiences of 10 ticks, its slot's last answer and the
    turns of those before it; and the hot ones still get nearly all answers."""
    engine, waits = await crowd(10.0, seed)
    cold = [wait for name, wait in waits.items() if name[0] not in "ab"]
    assert len(cold) > 5
    assert max(cold) <= 60
    assert sum(name[0] in "ab" for name in waits) > 1100
    assert engine.slots.waiting < 60


async def test_without_patience_the_same_crowd_does_starve_the_rest() -> None:
    """What the rule is for, and that the simulation can show it."""
    _, waits = await crowd(1e9, 0)
    assert {name[0] for name in waits} == {"a", "b"}
