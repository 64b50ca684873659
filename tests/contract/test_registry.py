"""The registry on both databases: numbers, the pointer, its history, and races for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from adapters.load_reports import LoadReports
from adapters.registry import Registry
from adapters.types import Adapter, ArtifactInfo, Learning
from core.database import Database
from core.errors import Conflict, Invalid, NotFound
from core.identity.tenants import TenantStore
from core.ids import AdapterId, Digest, TenantId

INFO = ArtifactInfo(Digest("a" * 64), 10, 8, ("q_proj",))


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


@pytest.fixture
def tenant(database: Database) -> TenantId:
    return TenantStore(database).create("acme").id


@pytest.fixture
def adapter(registry: Registry, tenant: TenantId) -> Adapter:
    return registry.create(tenant, "support")


def at_once(count: int, work: Callable[[], None]) -> None:
    """Run `work` in so many threads that begin together."""
    start = threading.Barrier(count)

    def run() -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_an_adapter_comes_back_as_it_was_made(registry: Registry, tenant: TenantId) -> None:
    learning = Learning(min_pairs=3, exploration=0.5, expire_after_s=9.0)
    made = registry.create(tenant, "law", scope="domain", subject="law", learning=learning)
    assert registry.get(tenant, "law") == made == registry.by_id(made.id)
    assert made.live_version is None
    assert made.generation == 0


@pytest.mark.parametrize(
    ("scope", "subject"), [("tenant", "x"), ("user", None), ("domain", None), ("all", None)]
)
def test_scope_and_subject_must_fit(
    registry: Registry, tenant: TenantId, scope: str, subject: str | None
) -> None:
    with pytest.raises(Invalid):
        registry.create(tenant, "a", scope=scope, subject=subject)  # type: ignore[arg-type]


def test_a_name_is_taken_per_tenant(registry: Registry, database: Database) -> None:
    ours, theirs = (TenantStore(database).create(name).id for name in ("ours", "theirs"))
    mine = registry.create(ours, "support")
    other = registry.create(theirs, "support")
    with pytest.raises(Conflict):
        registry.create(ours, "support")
    assert registry.get(ours, "support") == mine
    assert registry.adapters(ours) == [mine]
    assert registry.adapters() == [mine, other]


@pytest.mark.parametrize("name", ["other", "", "a\x00b", "\ud800", "support ", "x" * 10_000])
def test_any_name_that_is_not_there_is_not_found(
    registry: Registry, adapter: Adapter, name: str
) -> None:
    with pytest.raises(NotFound) as missing:
        registry.get(adapter.tenant_id, name)
    assert len(missing.value.message) < 300


def test_another_tenants_adapter_is_not_found(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    with pytest.raises(NotFound):
        registry.get(TenantStore(database).create("other").id, adapter.name)


def test_versions_are_numbered_from_one_and_engine_ids_over_all_adapters(
    registry: Registry, adapter: Adapter, tenant: TenantId
) -> None:
    other = registry.create(tenant, "other")
    made = [registry.add_version(a.id, INFO, source="upload") for a in (adapter, other, adapter)]
    assert [v.number for v in made] == [1, 1, 2]
    assert len({v.engine_id for v in made}) == 3
    assert registry.versions(other.id) == [made[1]]
    assert registry.versions(adapter.id) == [made[0], made[2]]
    assert registry.version(adapter.id, 2) == made[2]


def test_a_run_registers_one_version_however_often_it_resumes(
    registry: Registry, adapter: Adapter
) -> None:
    first = registry.add_version(adapter.id, INFO, source="run", run_id="run_1", note="first")
    again = registry.add_version(adapter.id, INFO, source="run", run_id="run_1", note="second")
    assert again == first
    assert registry.add_version(adapter.id, INFO, source="upload").number == 2


def test_two_workers_finishing_one_run_at_once_register_one_version(
    registry: Registry, adapter: Adapter
) -> None:
    found: list[int] = []
    at_once(
        4,
        lambda: found.append(
            registry.add_version(adapter.id, INFO, source="run", run_id="run_1").number
        ),
    )
    assert found == [1, 1, 1, 1]
    assert len(registry.versions(adapter.id)) == 1


def test_versions_pushed_at_once_get_numbers_of_their_own(
    registry: Registry, adapter: Adapter
) -> None:
    at_once(4, lambda: void(registry.add_version(adapter.id, INFO, source="upload")))
    versions = registry.versions(adapter.id)
    assert sorted(v.number for v in versions) == [1, 2, 3, 4]
    assert len({v.engine_id for v in versions}) == 4


def void(_value: object) -> None:
    """Nothing; for a call in a lambda whose answer is not wanted."""


def test_what_does_not_exist_is_not_found(registry: Registry, adapter: Adapter) -> None:
    nobody = AdapterId("ada_nobody")
    with pytest.raises(NotFound):
        registry.add_version(nobody, INFO, source="upload")
    with pytest.raises(NotFound):
        registry.by_id(nobody)
    with pytest.raises(NotFound):
        registry.set_learning(nobody, Learning())
    for number in (0, -1, 1, 2**31, 2**63, 10**30):
        with pytest.raises(NotFound):
            registry.version(adapter.id, number)
        with pytest.raises(NotFound):
            registry.activate(adapter, number, actor="me", reason="")
    assert registry.by_id(adapter.id) == adapter


def pushed(registry: Registry, adapter: Adapter, count: int) -> None:
    for _ in range(count):
        registry.add_version(adapter.id, INFO, source="upload")


def test_activation_moves_pointer_states_and_history_together(
    registry: Registry, adapter: Adapter
) -> None:
    pushed(registry, adapter, 2)
    one = registry.activate(adapter, 1, actor="ann", reason="first")
    two = registry.activate(one, 2, actor="gate", reason="better")
    assert registry.by_id(adapter.id) == two
    assert (two.live_version, two.generation) == (2, 2)
    assert [v.state for v in registry.versions(adapter.id)] == ["retired", "live"]
    moves = [(m.version, m.previous, m.actor, m.reason) for m in registry.history(adapter.id)]
    assert moves == [(2, 1, "gate", "better"), (1, None, "ann", "first")]
    base = registry.activate(two, None, actor="ann", reason="off")
    assert base.live_version is None
    assert [v.state for v in registry.versions(adapter.id)] == ["retired", "retired"]


def test_who_decided_on_an_old_picture_changes_nothing(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    pushed(registry, adapter, 2)
    now = registry.activate(adapter, 1, actor="ann", reason="")
    change = database.last_change()
    with pytest.raises(Conflict) as late:
        registry.activate(adapter, 2, actor="bob", reason="")
    assert late.value.code == "generation_conflict"
    assert registry.by_id(adapter.id) == now
    assert len(registry.history(adapter.id)) == 1
    assert [v.state for v in registry.versions(adapter.id)] == ["live", "candidate"]
    assert database.last_change() == change


def test_of_many_who_activate_at_once_exactly_one_wins(
    registry: Registry, adapter: Adapter
) -> None:
    pushed(registry, adapter, 8)
    numbers = iter(range(1, 9))
    lock = threading.Lock()
    won: list[int] = []
    lost: list[int] = []

    def activate() -> None:
        with lock:
            number = next(numbers)
        try:
            registry.activate(adapter, number, actor=f"thread {number}", reason="")
            won.append(number)
        except Conflict:
            lost.append(number)

    at_once(8, activate)
    assert (len(won), len(lost)) == (1, 7)
    assert registry.by_id(adapter.id).live_version == won[0]
    assert [v.number for v in registry.versions(adapter.id) if v.state == "live"] == won
    assert len(registry.history(adapter.id)) == 1


def test_a_rejected_version_goes_live_only_by_force(registry: Registry, adapter: Adapter) -> None:
    pushed(registry, adapter, 1)
    registry.reject(adapter.id, 1)
    assert registry.version(adapter.id, 1).state == "rejected"
    with pytest.raises(Conflict, match="force"):
        registry.activate(adapter, 1, actor="ann", reason="")
    assert registry.by_id(adapter.id).live_version is None
    assert registry.activate(adapter, 1, actor="ann", reason="", allow_rejected=True).generation


def test_only_a_candidate_can_be_rejected(registry: Registry, adapter: Adapter) -> None:
    pushed(registry, adapter, 1)
    registry.activate(adapter, 1, actor="ann", reason="")
    registry.reject(adapter.id, 1)
    assert registry.version(adapter.id, 1).state == "live"


def test_rollback_undoes_the_last_move_and_twice_redoes_it(
    registry: Registry, adapter: Adapter
) -> None:
    pushed(registry, adapter, 2)
    now = registry.activate(adapter, 1, actor="ann", reason="")
    now = registry.activate(now, 2, actor="ann", reason="")
    now = registry.rollback(now, actor="bob")
    assert now.live_version == 1
    now = registry.rollback(now, actor="bob", reason="changed my mind")
    assert now.live_version == 2
    assert [m.version for m in registry.history(adapter.id)] == [2, 1, 2, 1]
    assert [v.state for v in registry.versions(adapter.id)] == ["retired", "live"]


def test_rollback_of_the_first_version_is_back_to_the_base(
    registry: Registry, adapter: Adapter
) -> None:
    pushed(registry, adapter, 1)
    now = registry.activate(adapter, 1, actor="ann", reason="")
    assert now.live_version == 1
    assert registry.rollback(now, actor="ann").live_version is None


def test_rollback_after_the_same_version_was_activated_again_still_undoes(
    registry: Registry, adapter: Adapter
) -> None:
    """An activation that is sent twice (a retry) must not make the way back lead nowhere."""
    pushed(registry, adapter, 2)
    now = registry.activate(adapter, 1, actor="ann", reason="")
    for _ in range(2):
        now = registry.activate(now, 2, actor="ann", reason="")
    assert registry.rollback(now, actor="ann").live_version == 1


def test_rollback_without_a_past_is_a_conflict(registry: Registry, adapter: Adapter) -> None:
    with pytest.raises(Conflict, match="never activated"):
        registry.rollback(adapter, actor="ann")


def test_a_stale_rollback_does_not_undo_somebody_elses_move(
    registry: Registry, adapter: Adapter
) -> None:
    pushed(registry, adapter, 2)
    one = registry.activate(adapter, 1, actor="ann", reason="")
    registry.activate(one, 2, actor="bob", reason="")
    with pytest.raises(Conflict):
        registry.rollback(one, actor="ann")
    assert registry.by_id(adapter.id).live_version == 2


def test_learning_is_changed_and_announced(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    before = database.last_change()
    after = registry.set_learning(adapter.id, Learning(exploration=0.0))
    assert after.learning.exploration == 0.0
    assert after.generation == adapter.generation
    assert database.last_change() > before


def test_a_server_has_one_last_word_on_each_version(database: Database) -> None:
    reports = LoadReports(database)
    reports.put("srv_1", 7, "failed", "x" * 5000)
    reports.put("srv_1", 7, "resident")
    reports.put("srv_2", 7, "failed", "no")
    found = {r["server_id"]: (r["state"], r["detail"]) for r in reports.of([7])}
    assert found == {"srv_1": ("resident", ""), "srv_2": ("failed", "no")}
    assert reports.of([]) == []
    reports.forget("srv_1")
    assert [r["server_id"] for r in reports.of([7])] == ["srv_2"]


def test_text_no_database_can_hold_does_not_stop_a_move(
    registry: Registry, adapter: Adapter, database: Database
) -> None:
    registry.add_version(adapter.id, INFO, source="upload", note="a\x00b")
    registry.activate(adapter, 1, actor="k\x00", reason="r\x00\ud800")
    LoadReports(database).put("srv", 1, "failed", "d\x00\ud800")
    kept = registry.history(adapter.id)[0].reason, registry.version(adapter.id, 1).note
    kept += (LoadReports(database).of([1])[0]["detail"],)
    assert [text[0] for text in kept] == ["r", "a", "d"]
    assert "\x00" not in "".join(kept)
