"""Large weights are tried before anybody is answered by them, and only those."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.engine import Engine

from adapters.types import Version
from core.errors import AttuneError, Unavailable
from core.ids import AdapterId, Digest
from server.engine.residency import Residency
from server.engine.slots import Slots
from server.engine.trial import Absurd


def version(number: int, weights: str = "sane") -> Version:
    return Version(
        number, AdapterId("ada"), number, "live", Digest(weights), 1, 8, ("q_proj",),
        "run", None, None, 0.0, "",
    )  # fmt: skip


class House:
    """A residency whose engine finds the weights called absurd absurd."""

    def __init__(self, capacity: int = 2, slots: int = 1) -> None:
        self.engine = Engine()
        self.engine.absurd = lambda path: path.name == "absurd"
        self.reports: list[tuple[int, AttuneError | None]] = []
        self.slots = Slots(slots, patience_s=1.0, timeout_s=0.05)
        self.residency = Residency(
            self.engine,
            lambda digest: Path(f"/{digest}"),
            capacity=capacity,
            report=lambda v, error: self.reports.append((v.engine_id, error)),
            slots=self.slots,
            room_timeout_s=0.05,
        )

    async def settled(self) -> dict[int, str]:
        for _ in range(10):
            await asyncio.sleep(0)
        return self.engine.loaded


async def test_ordinary_weights_are_loaded_without_a_trial() -> None:
    house = House()
    await house.residency.preload("n1", version(1))
    assert house.engine.tried == []


async def test_a_version_that_fails_its_trial_is_reported_and_freed() -> None:
    house = House()
    with pytest.raises(Absurd, match="'n1' are absurd"):
        await house.residency.preload("n1", version(1, "absurd"))
    assert [(number, type(error)) for number, error in house.reports] == [(1, Absurd)]
    assert await house.settled() == {}
    assert house.residency.resident == []


async def test_a_place_is_free_again_after_a_failed_trial() -> None:
    house = House(capacity=1)
    with pytest.raises(Absurd):
        await house.residency.preload("n1", version(1, "absurd"))
    await house.residency.preload("n2", version(2))
    assert await house.settled() == {2: "n2"}


async def test_who_asks_for_a_version_in_its_trial_waits_and_hears_the_same() -> None:
    house = House()

    async def ask() -> None:
        async with house.residency.lease("n1", version(1, "absurd")):
            pytest.fail("answered by absurd weights")

    found = await asyncio.gather(ask(), ask(), return_exceptions=True)
    assert [type(error) for error in found] == [Absurd, Absurd]
    assert house.engine.tried == ["n1"]


async def test_weights_that_are_no_version_are_tried_and_leave_nothing_behind() -> None:
    house = House()
    await house.residency.try_out("support", Digest("sane"), Path("/sane"))
    with pytest.raises(Absurd, match="'support'"):
        await house.residency.try_out("support", Digest("absurd"), Path("/absurd"))
    names = house.engine.tried
    assert len(set(names)) == 2  # else the second would read what the cache has of the first
    assert all(name.endswith("/support") for name in names)
    assert await house.settled() == {}
    assert house.reports == []  # of no version is anything said


async def test_weights_of_one_name_are_tried_each_by_itself() -> None:
    """Two tenants may call theirs the same at the same moment."""
    house = House(slots=2)
    found = await asyncio.gather(
        house.residency.try_out("support", Digest("sane"), Path("/sane")),
        house.residency.try_out("support", Digest("absurd"), Path("/absurd")),
        return_exceptions=True,
    )
    assert [type(error) for error in found] == [type(None), Absurd]
    assert await house.settled() == {}


async def test_a_trial_takes_a_slot_as_an_answer_does() -> None:
    """The engine runs no more distinct adapters in a step than it has slots."""
    house = House()
    async with house.residency.lease("n1", version(1)):
        with pytest.raises(Unavailable, match="slots"):
            await house.residency.try_out("support", Digest("sane"), Path("/sane"))
    assert house.engine.tried == []
    await house.settled()
    await house.residency.try_out("support", Digest("sane"), Path("/sane"))
    assert len(house.engine.tried) == 1
