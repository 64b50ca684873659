"""Group commits, over stores that are quick, stuck, in trouble or refuse one item."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from core.errors import AttuneError, Conflict, Unavailable
from core.group_commit import GroupCommit

Made = GroupCommit[str, str]


class Store:
    """Keeps groups; `hold` stops it inside a commit until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()
        self.before: Callable[[Sequence[str]], None] = lambda _: None

    def hold(self) -> None:
        self.go.clear()

    def commit(self, items: Sequence[str]) -> Sequence[str | AttuneError]:
        self.busy.set()
        assert self.go.wait(10)
        self.before(items)
        self.groups.append(list(items))
        return [Conflict(item) if item.startswith("bad") else item.upper() for item in items]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def make(store: Store) -> Iterator[Callable[..., Made]]:
    made: list[Made] = []

    def of(**options: object) -> Made:
        settings = {"patience_s": 10.0, **options}
        made.append(GroupCommit("test", store.commit, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield of
    store.go.set()
    for one in made:
        one.close()


def held(group: Made, store: Store) -> Future[str]:
    """A first item whose commit is under way."""
    store.hold()
    first = group.put("first")
    assert store.busy.wait(10)
    return first


def test_one_alone_is_committed_at_once(make: Callable[..., Made], store: Store) -> None:
    assert make().put("a").result(10) == "A"
    assert store.groups == [["a"]]


def test_what_comes_during_a_commit_shares_the_next_and_each_is_told_its_own(
    make: Callable[..., Made], store: Store
) -> None:
    group = make()
    first = held(group, store)
    rest = [group.put(item) for item in ("a", "bad b", "c")]
    assert not any(one.done() for one in [first, *rest])
    store.go.set()
    assert [rest[0].result(10), rest[2].result(10)] == ["A", "C"]
    with pytest.raises(Conflict, match="bad b"):
        rest[1].result(10)
    assert store.groups == [["first"], ["a", "bad b", "c"]]


def test_a_group_is_bounded_and_nobody_waits_behind_anothers_batch(
    make: Callable[..., Made], store: Store
) -> None:
    group = make(most=4)
    held(group, store)
    batch = [group.put(f"big {number}", turn="big") for number in range(10)]
    thumb = group.put("thumb", turn="small")
    store.go.set()
    assert (thumb.result(10), batch[-1].result(10)) == ("THUMB", "BIG 9")
    assert [len(items) for items in store.groups] == [1, 4, 4, 3]
    assert "thumb" in store.groups[1]
    assert [i for items in store.groups for i in items if i.startswith("big")] == [
        f"big {number}" for number in range(10)
    ]


def test_one_that_breaks_the_commit_fails_alone(make: Callable[..., Made], store: Store) -> None:
    def fail(items: Sequence[str]) -> None:
        if "b" in items:
            raise RecursionError("nested too deeply")

    group = make()
    held(group, store)
    store.before = fail
    rest = [group.put(item) for item in "abc"]
    store.go.set()
    assert (rest[0].result(10), rest[2].result(10)) == ("A", "C")
    with pytest.raises(RecursionError):
        rest[1].result(10)


@pytest.mark.parametrize("retry", [True, False])
def test_trouble_is_tried_again_or_told_to_all(
    make: Callable[..., Made], store: Store, retry: bool
) -> None:
    failures = [OSError("disk"), Unavailable("busy")] if retry else [Unavailable("busy")]

    def fail(items: Sequence[str]) -> None:
        if failures and "first" not in items:
            raise failures.pop()

    group = make(retry=retry)
    held(group, store)
    store.before = fail
    both = [group.put(item) for item in "ab"]
    store.go.set()
    assert [type(one.exception(10)) for one in both] == [type(None) if retry else Unavailable] * 2
    assert (failures, len(store.groups)) == ([], 2 if retry else 1)


def test_what_nobody_waits_for_any_more_is_not_stored(
    make: Callable[..., Made], store: Store
) -> None:
    group = make(patience_s=0.2)
    held(group, store)
    late = group.put("late")
    until = time.monotonic() + 0.25
    while time.monotonic() < until:
        threading.Event().wait(0.01)
    store.go.set()
    with pytest.raises(Unavailable):
        late.result(10)
    assert group.put("next").result(10) == "NEXT"
    assert store.groups == [["first"], ["next"]]


def test_closing_stores_what_was_put_and_refuses_the_rest(
    make: Callable[..., Made], store: Store
) -> None:
    group = make()
    held(group, store)
    waiting = group.put("a")
    store.go.set()
    group.close()
    assert waiting.result(0) == "A"
    with pytest.raises(Unavailable, match="shutting down"):
        group.put("b")
