"""Publishing is done once, whatever interrupts it and whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.bases import Bases
from adapters.registry import Registry
from adapters.types import Learning
from adapters.validate import BaseModel, read_base
from core.database import Database
from core.errors import Conflict
from core.identity.tenants import TenantStore
from core.ids import Digest
from core.settings import SHIPPED_MODEL, Settings
from core.work.kind import Place
from core.work.ledger import Ledger
from deploy.bench.adapters import write_adapter
from trainer.judging.suite import suite_for
from trainer.model.warm import WarmModel
from trainer.runs.plan import Candidate
from trainer.runs.steps import Judged, Steps
from trainer.runs.watch import open_run
from trainer.types import RUN, Check, Evaluation, Interval, RunFacts, Sample, Verdict


@pytest.fixture
def world(tmp_path: Path) -> tuple[Steps, Registry, Ledger[RunFacts], str, list[Judged]]:
    """A run whose only candidate has passed the gate, about to be published."""
    settings = Settings(home=tmp_path / "home")
    database = Database(settings.resolved_database_url())
    database.upgrade()
    tenant = TenantStore(database).create("acme")
    registry, runs = Registry(database), Ledger(database, RUN)
    adapter = registry.create(tenant.id, "support", learning=Learning())
    run, _ = open_run(runs, adapter, "test", 0, None)
    folder = write_adapter(tmp_path / "candidate", read_base(str(SHIPPED_MODEL)), seed=1)
    interval = Interval(1.0, 0.5, 1.5, 10)
    measured = Evaluation(
        interval, 1.0, 1.0, None, 10, 0, 0.1, samples=(("Hi?", "Hello.", "Arr!"),)
    )
    passed = Verdict(True, (Check("preference margin", True, "fine"),))
    judged = [Judged(folder, "kto-fresh", measured, passed)]
    model = WarmModel(str(SHIPPED_MODEL))
    place = Place(settings, database, "base", settings.model)
    steps = Steps(place, lambda: model, lambda run_id: settings.home / "runs" / run_id)
    return steps, registry, runs, run.id, judged


def test_a_repeated_publish_makes_one_version(world: tuple) -> None:  # type: ignore[type-arg]
    steps, registry, runs, run_id, judged = world
    assert steps.publish(run_id, "", judged) == steps.publish(run_id, "", judged)
    adapter_id = runs.find(run_id).adapter_id
    assert [v.state for v in registry.versions(adapter_id)] == ["live"]
    assert registry.by_id(adapter_id).live_version == 1


def test_what_was_answered_before_and_after_stays_with_the_verdict(world: tuple) -> None:  # type: ignore[type-arg]
    steps, _, runs, run_id, judged = world
    assert runs.find(run_id).facts.samples == ()
    steps.publish(run_id, "", judged)
    assert runs.find(run_id).facts.samples == (Sample("Hi?", "Hello.", "Arr!"),)


def test_a_chat_model_without_a_suite_is_asked_the_general_one(tmp_path: Path) -> None:
    own = Settings(home=tmp_path).resolved_regression_suite()
    assert len(suite_for(own, is_chat=True)) == 156  # the shipped model brings its own
    none = Settings(home=tmp_path, model=str(tmp_path)).resolved_regression_suite()
    assert suite_for(none, is_chat=False) == ()
    assert len(suite_for(none, is_chat=True)) == 150


def test_a_publish_resumed_after_a_rollback_leaves_the_rollback_alone(world: tuple) -> None:  # type: ignore[type-arg]
    """Killed between activation and the run's end; the operator rolled back meanwhile."""
    steps, registry, runs, run_id, judged = world
    adapter_id = runs.find(run_id).adapter_id

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    publisher = steps._publisher
    end, publisher._end = publisher._end, die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        steps.publish(run_id, "", judged)
    registry.rollback(registry.by_id(adapter_id), actor="operator")
    publisher._end = end  # type: ignore[method-assign]
    steps.publish(run_id, "", judged)
    assert registry.by_id(adapter_id).live_version is None
    assert runs.find(run_id).state == "succeeded"
    assert len(registry.versions(adapter_id)) == 1


def test_a_cancelled_run_publishes_nothing(world: tuple) -> None:  # type: ignore[type-arg]
    steps, registry, runs, run_id, judged = world
    run = runs.advance(run_id, "evaluate")
    runs.cancel(run.tenant_id, run_id)
    with pytest.raises(Conflict, match="cancelled"):
        steps.publish(run_id, "", judged)
    assert registry.versions(run.adapter_id) == []


def test_a_run_under_way_ends_when_the_base_model_changes(world: tuple) -> None:  # type: ignore[type-arg]
    """Whether this trainer has the former base still, or was started anew with the present one."""
    steps, registry, runs, run_id, judged = world
    bases, run = Bases(steps._database), runs.find(run_id)
    other = BaseModel("other", {}, Digest("b2" * 32))
    bases.bind(steps._base)
    steps._require_base(run)
    bases.bind(other)
    for step in (
        lambda: steps.snapshot(run_id),
        lambda: steps.train(run_id, "", Candidate("kto", "fresh")),
        lambda: steps.evaluate(run_id, "", Candidate("kto", "fresh")),
        lambda: steps.publish(run_id, "", judged),
    ):
        with pytest.raises(Conflict, match="another base model"):
            step()
    bases.bind(steps._base)
    with pytest.raises(Conflict, match="changed while"):
        steps.publish(run_id, "", judged)
    assert registry.versions(run.adapter_id) == []
    late, _ = open_run(runs, registry.create(run.tenant_id, "late"), "test", 0, None)
    steps.publish(late.id, "", judged)
    (version,) = registry.versions(late.adapter_id)
    assert version.base_digest == steps._base.digest
