"""A run by SFT, from corrections as people send them to a live version, without a server."""

from __future__ import annotations

from pathlib import Path

from adapters.registry import Registry
from adapters.types import Learning
from core.database import Database
from core.identity.tenants import TenantStore
from core.ids import CompletionId, FeedbackId
from core.settings import Settings
from core.work.kind import Place
from feedback.interactions import InteractionStore
from feedback.store import FeedbackStore
from feedback.types import Feedback, Interaction
from trainer.model.warm import WarmModel
from trainer.runs.steps import Steps
from trainer.runs.watch import open_run


def test_corrections_become_a_live_version_of_an_adapter_that_asks_for_sft(
    tiny_model: WarmModel, tiny_model_path: Path, habits, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path / "home", model=str(tiny_model_path), train_rank=4, train_steps=30
    )
    database = Database(settings.resolved_database_url())
    database.upgrade()
    tenant = TenantStore(database).create("acme").id
    registry, answers, said = (
        Registry(database),
        InteractionStore(database),
        FeedbackStore(database),
    )
    adapter = registry.create(tenant, "support", learning=Learning(method="sft"))
    for number, item in enumerate(habits.items):
        answer = Interaction(
            id=CompletionId(f"c{number}"),
            tenant_id=tenant,
            endpoint="chat.completions",
            created_at_s=1.0,
            outcome="completed",
            model_requested="support",
            model_answered="base",
            adapter_id=adapter.id,
            version=None,
            explored=False,
            prompt=habits.ask(item),
            answers=(habits.reply(item, "well ."),),
            finish_reason="stop",
            end_user=f"user {number}",
        )
        answers.append([answer])
        corrected = habits.reply(item, "gladly !")
        said.put(Feedback(FeedbackId(f"f{number}"), tenant, 2.0, answer.id, correction=corrected))

    place = Place(settings, database, "base", settings.model)
    steps = Steps(place, lambda: tiny_model, lambda run_id: settings.home / "runs" / run_id)
    run, _ = open_run(steps.runs, adapter, "test", 0, None)
    digest = steps.snapshot(run.id)
    (planned,) = steps.plan(run.id, digest)
    assert planned.name == "sft-fresh"
    steps.train(run.id, digest, planned)
    verdict = steps.publish(run.id, digest, steps.evaluate(run.id, digest, planned))
    assert verdict.promoted, verdict.reasons
    version = registry.version(adapter.id, 1)
    assert (version.state, version.run_id, version.note) == ("live", run.id, "sft-fresh")
