"""Unknown names: one just made works at once, and a flood costs next to nothing."""

from __future__ import annotations

from server.sync.lookups import UnknownNames


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def look(unknown: UnknownNames, name: object, change: int) -> bool:
    """Ask, and look at once if it is worth it."""
    worth = unknown.worth_a_look(name, change)
    if worth:
        unknown.looked(name, change)
    return worth


def test_who_asks_while_somebody_looks_for_the_same_name_joins_them() -> None:
    """A name made a moment ago, asked for by 100 at once: none of them is turned away."""
    unknown = UnknownNames(per_s=20.0, clock=Clock())
    assert all(unknown.worth_a_look("new", 1) for _ in range(100))
    for _ in range(100):
        unknown.looked("new", 1)
    assert not unknown.worth_a_look("new", 1)
    assert sum(look(unknown, number, 1) for number in range(100)) == 19  # it was one look


def test_an_unknown_name_is_worth_a_look_once_until_the_registry_changes() -> None:
    clock = Clock()
    unknown = UnknownNames(clock=clock)
    assert look(unknown, "a", 1)
    assert not look(unknown, "a", 1)
    assert look(unknown, "b", 1)
    assert look(unknown, "a", 2)
    assert not look(unknown, "a", 2)
    clock.now_s = 1.0
    assert look(unknown, "a", 2)


def test_a_flood_of_names_is_a_few_looks_a_second() -> None:
    """100,000 different names in ten seconds: a burst of 20, then 20 a second."""
    clock = Clock()
    unknown = UnknownNames(per_s=20.0, capacity=50, clock=clock)
    looks = 0
    for number in range(100_000):
        clock.now_s = number / 10_000
        looks += look(unknown, number, 1)
    assert 215 <= looks <= 221
    assert len(unknown._looked) <= 50


def test_after_a_flood_a_new_name_is_looked_for_again() -> None:
    clock = Clock()
    unknown = UnknownNames(per_s=20.0, clock=clock)
    assert sum(look(unknown, n, 1) for n in range(1000)) == 20
    assert not look(unknown, "new", 1)
    clock.now_s = 0.06
    assert look(unknown, "new", 1)
