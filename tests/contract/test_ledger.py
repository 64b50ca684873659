"""What the ledger of durable work promises, on either database, in the terms of both kinds."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from adapters.exported_bases import ExportedBases
from core.database import Database
from core.errors import Conflict, Invalid, NotFound
from core.ids import AdapterId, TenantId
from core.work.ledger import Ledger
from core.work.types import Work
from core.work.watermarks import Watermarks
from deploy.export.request import EXPORT, Exported, ExportFacts, ExportFile
from trainer.types import RUN, Check, Run, RunFacts, Verdict

ACME, OTHER = TenantId("acme"), TenantId("other")
SUPPORT, SALES = AdapterId("support"), AdapterId("sales")
FILES = (ExportFile("model/model.onnx", "a" * 64, 2**40),)


@pytest.fixture
def runs(database: Database) -> Ledger[RunFacts]:
    return Ledger(database, RUN)


@pytest.fixture
def exports(database: Database) -> Ledger[ExportFacts]:
    return Ledger(database, EXPORT)


def ask(runs: Ledger[RunFacts], adapter: AdapterId = SUPPORT, seq: int = 10) -> tuple[Run, bool]:
    facts = RunFacts("32 new", seq, 99.5, 3)
    return runs.open(ACME, adapter, facts, adapter_id=adapter)


def opened(runs: Ledger[RunFacts], adapter: AdapterId = SUPPORT, seq: int = 10) -> Run:
    run, is_new = ask(runs, adapter, seq)
    assert is_new
    return run


def exported(exports: Ledger[ExportFacts], key: str = "k", **changes: Any) -> Exported:
    facts = {"model": "support@3", "version": 3, "layout": "merged", "precision": "int8", **changes}
    return exports.open(ACME, key, ExportFacts(**facts), adapter_id=SUPPORT, message="Waiting.")[0]


def test_work_comes_back_as_it_was_opened(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    assert runs.get(ACME, run.id) == runs.find(run.id) == run
    assert (run.state, run.is_active, run.progress, run.adapter_id) == ("queued", True, 0, SUPPORT)
    assert run.facts == RunFacts("32 new", 10, 99.5, 3)


def test_what_is_asked_for_twice_is_under_way_once(runs: Ledger[RunFacts]) -> None:
    first = opened(runs)
    assert ask(runs, seq=11) == (first, False)
    assert ask(runs, SALES)[1]
    runs.finish(first.id, "rejected")
    second, is_new = ask(runs, seq=12)
    assert is_new
    assert second.id != first.id


def test_kinds_do_not_get_in_each_others_way(
    runs: Ledger[RunFacts], exports: Ledger[ExportFacts]
) -> None:
    run, export = opened(runs), exported(exports, key=SUPPORT)
    assert export.id != run.id
    assert (run.id[:4], export.id[:4]) == ("run_", "exp_")
    assert [work.id for work in exports.active()] == [export.id]
    with pytest.raises(NotFound):
        exports.get(ACME, run.id)
    assert (runs.count_by_state(), exports.list(ACME).items) == ({"queued": 1}, (export,))


def test_of_many_opened_at_once_one_is_new(runs: Ledger[RunFacts]) -> None:
    won: list[tuple[Run, bool]] = []
    start = threading.Barrier(4)

    def open_one() -> None:
        start.wait()
        won.append(ask(runs))

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(is_new for _, is_new in won) == 1
    assert len({run.id for run, _ in won}) == 1


def test_work_moves_forward_and_a_replayed_step_does_not_move_it_back(
    runs: Ledger[RunFacts], exports: Ledger[ExportFacts]
) -> None:
    run = opened(runs)
    runs.advance(run.id, "snapshot", snapshot_digest="d" * 64)
    runs.advance(run.id, "evaluate")
    replayed = runs.advance(run.id, "snapshot", snapshot_digest="d" * 64)
    assert (replayed.state, replayed.facts.snapshot_digest) == ("evaluate", "d" * 64)
    assert runs.advance(run.id, "publish", version=4).facts.version == 4
    export = exported(exports)
    exports.advance(export.id, "verifying", progress=0.8, message="Comparing.")
    seen = exports.advance(export.id, "building", progress=0.2, message="Again, after a crash.")
    assert (seen.state, seen.progress) == ("verifying", 0.8)
    assert seen.message == "Again, after a crash."


def test_a_run_ends_with_its_verdict(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    verdict = Verdict(False, (Check("kl", False, "4.1 is over 3.0"), Check("suite", True, "same")))
    ended = runs.finish(run.id, "rejected", verdict=verdict, version=4)
    assert runs.get(ACME, run.id) == ended
    assert (ended.state, ended.facts.verdict, ended.facts.version) == ("rejected", verdict, 4)
    assert ended.finished_at_s is not None


def test_a_finished_export_is_found_again(exports: Ledger[ExportFacts]) -> None:
    def ready(key: str) -> tuple[Exported, ...]:
        return exports.list(ACME, {"request_key": key, "state": "ready"}, limit=1).items

    assert ready("k") == ()
    export = exported(exports)
    assert (export.facts.files, export.facts.manifest) == ((), None)
    for _ in range(2):  # a repeated step
        done = exports.finish(
            export.id,
            "ready",
            progress=1.0,
            manifest={"format": 1},
            adapter_manifest={"rank": 4},
            files=FILES,
        )
    assert (done.state, done.progress, done.facts.files) == ("ready", 1.0, FILES)
    assert (done.facts.manifest, done.facts.adapter_manifest) == ({"format": 1}, {"rank": 4})
    assert done.finished_at_s is not None
    assert ready("k") == (done,)
    assert ready("other") == ()
    assert exports.active() == []
    with pytest.raises(Conflict, match="it is ready"):
        exports.advance(export.id, "building")
    with pytest.raises(Conflict, match="cannot be cancelled: it is ready"):
        exports.cancel(ACME, export.id)


def test_ending_work_twice_alike_changes_nothing(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    ended = runs.finish(run.id, "failed", error="no memory")
    assert runs.finish(run.id, "failed", error="no memory") == ended
    with pytest.raises(Conflict, match="has ended already: it failed"):
        runs.finish(run.id, "succeeded")
    assert runs.get(ACME, run.id) == ended


def test_failed_work_keeps_its_reason_and_makes_room(exports: Ledger[ExportFacts]) -> None:
    export = exported(exports)
    failed = exports.finish(export.id, "failed", error="agreement 0.81, needed 0.97 \0\ud83d")
    assert failed.error is not None
    assert failed.error.startswith("agreement 0.81, needed 0.97")
    long = exports.finish(exported(exports).id, "failed", error="x" * 100_000)
    assert len(long.error or "") == 20_000
    assert exported(exports).id not in (export.id, long.id)


def test_ended_work_goes_no_further(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    runs.finish(run.id, "rejected")
    with pytest.raises(Conflict, match="it was rejected"):
        runs.advance(run.id, "train")


def test_queued_work_is_cancelled_at_once(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    ended = runs.cancel(ACME, run.id)
    assert (ended.state, ended.is_active) == ("cancelled", False)
    assert runs.cancel(ACME, run.id) == ended
    assert runs.active() == []
    with pytest.raises(Conflict) as refused:
        runs.advance(run.id, "snapshot")
    assert refused.value.code == "cancelled"


def test_work_under_way_stops_at_its_next_word(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    runs.advance(run.id, "train")
    asked = runs.cancel(ACME, run.id)
    assert asked.state == "train"
    assert runs.cancel(ACME, run.id) == asked
    with pytest.raises(Conflict) as refused:
        runs.advance(run.id, "evaluate")
    assert refused.value.code == "cancelled"
    assert runs.finish(run.id, "cancelled").state == "cancelled"


def test_work_past_its_last_way_out_learns_of_a_cancel_and_goes_on(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    runs.advance(run.id, "train")
    runs.cancel(ACME, run.id)
    assert runs.advance(run.id, "gate", stoppable=False).cancel_requested_at_s is not None
    runs.finish(run.id, "succeeded")
    with pytest.raises(Conflict, match="cannot be cancelled: it succeeded"):
        runs.cancel(ACME, run.id)


def test_work_of_another_tenant_does_not_exist(exports: Ledger[ExportFacts]) -> None:
    export = exported(exports)
    messages = set()
    for attempt in (
        lambda: exports.get(OTHER, export.id),
        lambda: exports.cancel(OTHER, export.id),
        lambda: exports.list(OTHER, after=export.id),
    ):
        with pytest.raises(NotFound) as refused:
            attempt()
        messages.add(refused.value.message)
    with pytest.raises(NotFound) as refused:
        exports.get(OTHER, "exp_nothing")
    assert refused.value.message.replace("exp_nothing", export.id) in messages
    assert exports.list(OTHER).items == ()


def test_what_does_not_exist_is_not_found(runs: Ledger[RunFacts]) -> None:
    for attempt in (
        lambda: runs.find("run_nowhere"),
        lambda: runs.advance("run_nowhere", "train"),
        lambda: runs.finish("run_nowhere", "failed"),
        lambda: runs.event("run_nowhere", "message", "hello"),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_a_state_of_no_such_kind_is_refused(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    with pytest.raises(ValueError):
        runs.advance(run.id, "building")
    with pytest.raises(ValueError):
        runs.finish(run.id, "ready")


def test_work_is_listed_newest_first_page_by_page(runs: Ledger[RunFacts]) -> None:
    made: list[Work[RunFacts]] = []
    for seq in range(4):
        made.append(opened(runs, seq=seq))
        runs.finish(made[-1].id, "rejected")
    other = opened(runs, SALES)
    newest = [other.id, *(run.id for run in reversed(made))]
    first = runs.list(ACME, limit=3)
    rest = runs.list(ACME, limit=3, after=first.items[-1].id)
    assert [run.id for run in (*first.items, *rest.items)] == newest
    assert (first.has_more, rest.has_more) == (True, False)
    assert [run.id for run in runs.list(ACME, {"adapter_id": SALES}).items] == [other.id]
    for limit in (0, 201):
        with pytest.raises(Invalid):
            runs.list(ACME, limit=limit)


def test_work_is_filtered_by_what_its_kind_is_asked_for(exports: Ledger[ExportFacts]) -> None:
    made = [exported(exports, f"k{n}", version=n, model=f"support@{n}").id for n in range(1, 6)]
    exports.finish(made[0], "failed", error="x")

    def found(**where: str | None) -> list[str]:
        return [export.id for export in exports.list(ACME, where).items]

    assert found(model="support@2") == [made[1]]
    assert found(model="support", state=None) == []
    assert found(state="failed") == [made[0]]
    assert found(layout="base+adapters") == []
    assert found(precision="int8", layout="merged") == made[::-1]
    assert exports.count_by_state() == {"queued": 4, "failed": 1}


def test_the_watermark_is_where_the_newest_run_looked(
    runs: Ledger[RunFacts], exports: Ledger[ExportFacts], database: Database
) -> None:
    marks = Watermarks(database)
    assert marks.of([SUPPORT]) == {SUPPORT: 0}
    runs.finish(opened(runs, seq=10).id, "rejected")
    newest = opened(runs, seq=25)
    opened(runs, SALES, seq=7)
    other = exported(exports)  # has looked at none
    assert marks.of([SUPPORT, SALES]) == {SUPPORT: 25, SALES: 7}
    assert marks.of([]) == {}
    assert marks.newest_feedback_at_s(newest.id) == 99.5
    assert marks.newest_feedback_at_s(other.id) is None


def test_active_work_is_found_after_a_restart(runs: Ledger[RunFacts]) -> None:
    first, second = opened(runs), opened(runs, SALES)
    runs.finish(first.id, "failed")
    assert [run.id for run in runs.active()] == [second.id]


def test_events_are_read_in_order_from_where_one_left_off(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    runs.event(run.id, "message", "started")
    runs.event(run.id, "metrics", "step 1", {"loss": 0.5, "diverged": float("nan")})
    first, second = runs.events(run.id)
    assert (first.message, second.type) == ("started", "metrics")
    assert second.data == {"loss": 0.5, "diverged": None}
    assert [event.message for event in runs.events(run.id, after=first.id)] == ["step 1"]


def test_a_replayed_step_does_not_log_its_event_twice(runs: Ledger[RunFacts]) -> None:
    run = opened(runs)
    for _ in range(2):
        runs.event(run.id, "metrics", "step 1", {"loss": 0.5}, key="train:1")
    runs.event(run.id, "message", "free")
    runs.event(run.id, "message", "free")
    assert [event.message for event in runs.events(run.id)] == ["step 1", "free", "free"]


def test_an_exported_base_is_remembered_by_digest_and_precision(database: Database) -> None:
    bases = ExportedBases(database)
    assert bases.get("b" * 64, "int4") is None
    bases.record("b" * 64, "int4", {"format": 1})
    bases.record("b" * 64, "int4", {"format": 1, "created_at": "later"})
    assert bases.get("b" * 64, "int4") == {"format": 1, "created_at": "later"}
    assert bases.get("b" * 64, "int8") is None


def test_what_a_piece_says_to_clients_names_no_place_of_the_machine(
    exports: Ledger[ExportFacts],
) -> None:
    """Errors of any library are written down in it, and its log is read by its tenant."""
    export = exported(exports)
    said = "FileNotFoundError: '/srv/attune/blobs/ab/graph.onnx'; see GET /v1/exports."
    left = "FileNotFoundError: '…/graph.onnx'; see GET /v1/exports."
    exports.advance(export.id, "building", message=said)
    exports.event(export.id, "message", said)
    ended = exports.finish(export.id, "failed", error=said)
    assert (ended.message, ended.error) == (left, left)
    assert [event.message for event in exports.events(export.id)] == [left]
