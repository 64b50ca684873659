"""Looking together: nobody gets an old look, and a flood costs next to nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from core.errors import Unavailable
from server.sync.shared_look import SharedLook


class Looks:
    """Counts the looks; each waits until `go` is set, and fails if told to."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.at_once = self.most_at_once = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.began.append(time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.go.wait()
        self.at_once -= 1
        if self.error is not None:
            raise self.error


async def test_who_asks_before_a_look_begins_shares_it() -> None:
    looks = Looks()
    shared = SharedLook(looks)
    await asyncio.gather(*(shared() for _ in range(100)))
    assert len(looks.began) == 1


async def test_who_asks_while_a_look_is_under_way_gets_one_that_began_later() -> None:
    """It may have read the registry before the name was made."""
    looks = Looks()
    looks.go.clear()
    shared = SharedLook(looks)
    first = asyncio.create_task(shared())
    while not looks.began:
        await asyncio.sleep(0)
    later = [asyncio.create_task(shared()) for _ in range(100)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(looks.began) == 1
    looks.go.set()
    await asyncio.gather(first, *later)
    assert len(looks.began) == 2
    assert looks.most_at_once == 1


async def test_a_flood_of_names_is_a_few_looks_a_second() -> None:
    """Thousands who ask one after the other and all at once: no two looks within the spacing."""
    looks = Looks()
    shared = SharedLook(looks, spacing_s=0.02)
    for _ in range(4):
        await asyncio.gather(*(shared() for _ in range(1000)))
    gaps = [later - earlier for earlier, later in zip(looks.began, looks.began[1:], strict=False)]
    assert len(looks.began) == 4
    assert min(gaps) >= 0.019


async def test_a_look_that_fails_fails_for_those_who_shared_it_and_not_for_the_next() -> None:
    looks = Looks()
    looks.error = Unavailable("The registry cannot be read now; try again.")
    shared = SharedLook(looks)
    said = await asyncio.gather(shared(), shared(), return_exceptions=True)
    assert [type(error) for error in said] == [Unavailable, Unavailable]
    with pytest.raises(Unavailable):
        await shared()
    looks.error = None
    await shared()


async def test_one_who_stops_waiting_takes_the_look_from_nobody() -> None:
    looks = Looks()
    looks.go.clear()
    shared = SharedLook(looks)
    gone, waiting = asyncio.create_task(shared()), asyncio.create_task(shared())
    while not looks.began:
        await asyncio.sleep(0)
    gone.cancel()
    looks.go.set()
    await waiting
    assert len(looks.began) == 1
