"""What the store of training runs promises, on either database."""

from __future__ import annotations

import threading

import pytest

from core.database import Database
from core.errors import Conflict, Invalid, NotFound
from core.ids import AdapterId, RunId, TenantId
from feedback.runs import Run, RunStore
from trainer.types import Check, Verdict

ACME, OTHER = TenantId("acme"), TenantId("other")
SUPPORT, SALES = AdapterId("support"), AdapterId("sales")
NOWHERE = RunId("run_nowhere")


@pytest.fixture
def store(database: Database) -> RunStore:
    return RunStore(database)


def opened(store: RunStore, adapter: AdapterId = SUPPORT, seq: int = 10) -> Run:
    run = store.open(ACME, adapter, "32 new", seq, 99.5, 3)
    assert run is not None
    return run


def test_a_run_comes_back_as_it_was_opened(store: RunStore) -> None:
    run = opened(store)
    assert store.get(ACME, run.id) == run
    assert (run.state, run.trigger, run.is_active) == ("queued", "32 new", True)
    assert (run.last_feedback_seq, run.last_feedback_at_s, run.live_before) == (10, 99.5, 3)


def test_an_adapter_has_one_active_run_at_most(store: RunStore) -> None:
    first = opened(store)
    assert store.open(ACME, SUPPORT, "again", 11, None, 3) is None
    assert store.open(ACME, SALES, "its own", 11, None, None) is not None
    store.finish(first.id, "rejected")
    assert store.open(ACME, SUPPORT, "next", 12, None, 3) is not None


def test_of_many_opened_at_once_one_is(store: RunStore) -> None:
    won: list[Run | None] = []
    start = threading.Barrier(4)

    def open_one() -> None:
        start.wait()
        won.append(store.open(ACME, SUPPORT, "race", 1, None, None))

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(run is not None for run in won) == 1


def test_a_replayed_opening_finds_its_own_run(store: RunStore) -> None:
    mine = RunId("run_mine")
    first = store.open(ACME, SUPPORT, "t", 1, None, None, run_id=mine)
    assert store.open(ACME, SUPPORT, "t", 1, None, None, run_id=mine) == first
    store.finish(mine, "failed", error="out of memory")
    again = store.open(ACME, SUPPORT, "t", 1, None, None, run_id=mine)
    assert again is not None
    assert again.state == "failed"


def test_a_run_moves_forward_and_a_replayed_step_does_not_move_it_back(store: RunStore) -> None:
    run = opened(store)
    store.advance(run.id, "snapshot", snapshot_digest="d" * 64)
    store.advance(run.id, "evaluate")
    replayed = store.advance(run.id, "snapshot", snapshot_digest="d" * 64)
    assert (replayed.state, replayed.snapshot_digest) == ("evaluate", "d" * 64)
    assert store.advance(run.id, "publish", version=4).version == 4


def test_a_run_ends_with_its_verdict(store: RunStore) -> None:
    run = opened(store)
    verdict = Verdict(False, (Check("kl", False, "4.1 is over 3.0"), Check("suite", True, "same")))
    ended = store.finish(run.id, "rejected", verdict=verdict, version=4)
    assert store.get(ACME, run.id) == ended
    assert (ended.state, ended.verdict, ended.version) == ("rejected", verdict, 4)
    assert ended.finished_at_s is not None


def test_ending_a_run_twice_alike_changes_nothing(store: RunStore) -> None:
    run = opened(store)
    ended = store.finish(run.id, "failed", error="no memory")
    assert store.finish(run.id, "failed", error="no memory") == ended
    with pytest.raises(Conflict):
        store.finish(run.id, "succeeded")
    assert store.get(ACME, run.id) == ended


def test_an_ended_run_goes_no_further(store: RunStore) -> None:
    run = opened(store)
    store.finish(run.id, "cancelled")
    with pytest.raises(Conflict):
        store.advance(run.id, "train")


def test_a_queued_run_is_cancelled_at_once(store: RunStore) -> None:
    run = opened(store)
    ended = store.request_cancel(ACME, run.id)
    assert ended.state == "cancelled"
    assert store.request_cancel(ACME, run.id) == ended
    assert store.active() == []


def test_a_running_run_learns_at_its_next_step_that_it_should_stop(store: RunStore) -> None:
    run = opened(store)
    store.advance(run.id, "train")
    asked = store.request_cancel(ACME, run.id)
    assert asked.state == "train"
    assert store.request_cancel(ACME, run.id) == asked
    assert store.advance(run.id, "evaluate").cancel_requested_at_s is not None
    store.finish(run.id, "succeeded")
    with pytest.raises(Conflict):
        store.request_cancel(ACME, run.id)


def test_runs_of_another_tenant_do_not_exist(store: RunStore) -> None:
    run = opened(store)
    for attempt in (
        lambda: store.get(OTHER, run.id),
        lambda: store.request_cancel(OTHER, run.id),
        lambda: store.list(OTHER, after=run.id),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert store.list(OTHER).items == ()


def test_what_does_not_exist_is_not_found(store: RunStore) -> None:
    for attempt in (
        lambda: store.advance(NOWHERE, "train"),
        lambda: store.finish(NOWHERE, "failed"),
        lambda: store.event(NOWHERE, "message", "hello"),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_runs_are_listed_newest_first_page_by_page(store: RunStore) -> None:
    runs = []
    for seq in range(4):
        runs.append(opened(store, seq=seq))
        store.finish(runs[-1].id, "rejected")
    other = opened(store, SALES)
    newest = [other.id, *(run.id for run in reversed(runs))]
    first = store.list(ACME, limit=3)
    rest = store.list(ACME, limit=3, after=first.items[-1].id)
    assert [run.id for run in (*first.items, *rest.items)] == newest
    assert (first.has_more, rest.has_more) == (True, False)
    assert [run.id for run in store.list(ACME, adapter_id=SALES).items] == [other.id]
    with pytest.raises(Invalid):
        store.list(ACME, limit=0)


def test_the_watermark_is_where_the_newest_run_looked(store: RunStore) -> None:
    assert store.watermark(SUPPORT) == 0
    store.finish(opened(store, seq=10).id, "rejected")
    opened(store, seq=25)
    opened(store, SALES, seq=7)
    assert store.watermark(SUPPORT) == 25
    assert store.watermarks() == {SUPPORT: 25, SALES: 7}


def test_active_runs_are_found_after_a_restart(store: RunStore) -> None:
    first, second = opened(store), opened(store, SALES)
    store.finish(first.id, "failed")
    assert [run.id for run in store.active()] == [second.id]


def test_events_are_read_in_order_from_where_one_left_off(store: RunStore) -> None:
    run = opened(store)
    store.event(run.id, "message", "started")
    store.event(run.id, "metrics", "step 1", {"loss": 0.5, "diverged": float("nan")})
    first, second = store.events(run.id)
    assert (first.message, second.type) == ("started", "metrics")
    assert second.data == {"loss": 0.5, "diverged": None}
    assert [event.message for event in store.events(run.id, after=first.id)] == ["step 1"]


def test_a_replayed_step_does_not_log_its_event_twice(store: RunStore) -> None:
    run = opened(store)
    for _ in range(2):
        store.event(run.id, "metrics", "step 1", {"loss": 0.5}, key="train:1")
    store.event(run.id, "message", "free")
    store.event(run.id, "message", "free")
    assert [event.message for event in store.events(run.id)] == ["step 1", "free", "free"]
