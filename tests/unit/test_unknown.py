"""Unknown names: one just made works at once, and a flood costs next to nothing."""

from __future__ import annotations

from server.unknown import UnknownNames


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_unknown_name_is_worth_a_look_once_until_the_registry_changes() -> None:
    clock = Clock()
    unknown = UnknownNames(clock=clock)
    assert unknown.worth_a_look("a", 1)
    assert not unknown.worth_a_look("a", 1)
    assert unknown.worth_a_look("b", 1)
    assert unknown.worth_a_look("a", 2)
    assert not unknown.worth_a_look("a", 2)
    clock.now_s = 1.0
    assert unknown.worth_a_look("a", 2)


def test_a_flood_of_names_is_a_few_looks_a_second() -> None:
    """100,000 different names in ten seconds: a burst of 20, then 20 a second."""
    clock = Clock()
    unknown = UnknownNames(per_s=20.0, capacity=50, clock=clock)
    looks = 0
    for number in range(100_000):
        clock.now_s = number / 10_000
        looks += unknown.worth_a_look(number, 1)
    assert 215 <= looks <= 221
    assert len(unknown._looked) <= 50


def test_after_a_flood_a_new_name_is_looked_for_again() -> None:
    clock = Clock()
    unknown = UnknownNames(per_s=20.0, clock=clock)
    assert sum(unknown.worth_a_look(n, 1) for n in range(1000)) == 20
    assert not unknown.worth_a_look("new", 1)
    clock.now_s = 0.06
    assert unknown.worth_a_look("new", 1)
