"""Turns: a tenant's calls wait for each other, and for nobody else's."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import TooMany
from core.ids import TenantId
from server.turns import Turns

ACME, OTHER = TenantId("acme"), TenantId("other")


class Hall:
    """Work that lasts until it is told to end."""

    def __init__(self, *, at_once: int, waiting: int) -> None:
        self.turns = Turns("calls", at_once=at_once, waiting=waiting)
        self.working: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.end = asyncio.Event()

    async def begin(self, tenant: TenantId, count: int = 1) -> None:
        async def work() -> None:
            async with self.turns.of(tenant):
                self.working.append(tenant)
                await self.end.wait()

        self.tasks += [asyncio.create_task(work()) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_tenant_holds_its_places_and_the_rest_of_its_work_waits() -> None:
    hall = Hall(at_once=2, waiting=3)
    await hall.begin(ACME, 5)
    assert hall.working == [ACME] * 2
    hall.end.set()
    await asyncio.gather(*hall.tasks)
    assert hall.working == [ACME] * 5


async def test_nobody_waits_behind_another_tenant() -> None:
    hall = Hall(at_once=2, waiting=100)
    await hall.begin(ACME, 50)
    await hall.begin(OTHER, 2)
    assert hall.working == [ACME, ACME, OTHER, OTHER]
    hall.end.set()
    await asyncio.gather(*hall.tasks)


async def test_a_full_line_is_told_so_at_once_and_an_empty_one_forgotten() -> None:
    hall = Hall(at_once=1, waiting=2)
    await hall.begin(ACME, 3)
    with pytest.raises(TooMany, match="1 of a tenant at a time and lets 2 wait"):
        async with hall.turns.of(ACME):
            pytest.fail("took a fourth")
    hall.end.set()
    await asyncio.gather(*hall.tasks)
    async with hall.turns.of(ACME):
        pass
    assert hall.turns._lines == {}


async def test_who_leaves_while_waiting_gives_its_place_in_line_to_others() -> None:
    hall = Hall(at_once=1, waiting=1)
    await hall.begin(ACME, 2)
    hall.tasks[1].cancel()
    await asyncio.gather(hall.tasks[1], return_exceptions=True)
    await hall.begin(ACME)
    hall.end.set()
    await asyncio.gather(hall.tasks[0], hall.tasks[2])
    assert hall.working == [ACME, ACME]
