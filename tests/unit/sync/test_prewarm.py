"""What a starting server loads before it is asked: what was asked for lately."""

from __future__ import annotations

from adapters.directory import Directory
from adapters.types import Adapter
from core.ids import AdapterId, TenantId
from server.sync.prewarm import worth_loading

T = TenantId("ten")


def directory(*live: str, without: tuple[str, ...] = ()) -> Directory:
    """Adapters in the order of their registration; those in `without` have nothing live."""
    adapters = [
        Adapter(AdapterId(f"id-{name}"), T, name, "tenant", None, 0.0, number, 1)
        for names, number in ((live, 1), (without, None))
        for name in names
    ]
    return Directory(by_name={(T, adapter.name): adapter for adapter in adapters})


def names(found: list[Adapter]) -> str:
    return "".join(adapter.name for adapter in found)


def recent(text: str) -> list[AdapterId]:
    return [AdapterId(f"id-{name}") for name in text]


def test_the_busiest_are_loaded_last_so_that_they_leave_last() -> None:
    assert names(worth_loading(directory(*"abcdef"), recent("ca"), limit=2)) == "ac"


def test_room_that_is_left_goes_to_the_newest_others() -> None:
    assert names(worth_loading(directory(*"abcdef"), recent("ca"), limit=4)) == "efac"
    assert names(worth_loading(directory(*"abcdef"), recent(""), limit=3)) == "def"


def test_what_is_gone_or_has_nothing_live_is_left_out() -> None:
    found = worth_loading(directory(*"ab", without=("x",)), recent("zxb"), limit=4)
    assert names(found) == "ab"


def test_fewer_places_than_busy_adapters_take_the_busiest() -> None:
    assert names(worth_loading(directory(*"abc"), recent("cba"), limit=1)) == "c"
