"""A run keeps to the recipe it was planned by, and tries each of its learning rates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adapters.artifacts.store import ArtifactStore
from adapters.recipe import Recipe
from adapters.registry import Registry
from adapters.types import Learning
from core.database import Database
from core.identity.tenants import TenantStore
from core.settings import Settings
from core.work.kind import Place
from feedback.learning.datasets import freeze, to_bytes
from trainer.model.warm import WarmModel
from trainer.runs.steps import Steps
from trainer.runs.watch import open_run


def test_a_run_keeps_to_its_recipe_and_tries_each_learning_rate(
    tiny_model: WarmModel, tiny_model_path: Path, habits, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", model=str(tiny_model_path))
    database = Database(settings.resolved_database_url())
    database.upgrade()
    tenant, registry = TenantStore(database).create("acme").id, Registry(database)
    recipe = Recipe(learning_rate=(1e-3, 2e-3), max_steps=2, batch_size=4, rank=2)
    learning = Learning(method="dpo", recipe=recipe)
    adapter = registry.create(tenant, "support", learning=learning)
    place = Place(settings, database, "base", settings.model)
    steps = Steps(place, lambda: tiny_model, lambda run_id: settings.home / "runs" / run_id)
    frozen = freeze(adapter.id, (), habits.pairs(), {}, 0.2)
    store = ArtifactStore(settings.resolved_artifacts_url(), cache=settings.home / "cache")
    digest = store.put_bytes(to_bytes(frozen))
    run, _ = open_run(steps.runs, adapter, "test", 0, None)

    planned = steps.plan(run.id, digest)
    assert [one.name for one in planned] == ["dpo-fresh-lr0.001", "dpo-fresh-lr0.002"]
    registry.set_learning(adapter.id, replace(learning, recipe=Recipe(max_steps=9)))
    for candidate in planned:
        steps.train(run.id, digest, candidate)

    kept = steps.runs.find(run.id).facts.recipe
    assert kept is not None
    assert (kept.learning_rate, kept.max_steps, kept.alpha) == ((1e-3, 2e-3), 2, 4)
    told = [
        event.data["hyperparameters"]
        for event in steps.runs.events(run.id)
        if "hyperparameters" in event.data
    ]
    assert [one["learning_rate"] for one in told] == [1e-3, 2e-3]
    assert {(one["steps"], one["batch_size"], one["rank"]) for one in told} == {(2, 4, 2)}
