"""A run by SFT, from corrections as people send them to a live version, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.artifacts.store import ArtifactStore
from adapters.registry import Registry
from adapters.types import Learning
from core.database import Database
from core.identity.tenants import TenantStore
from core.ids import CompletionId, Digest, FeedbackId
from core.settings import Settings
from core.work.kind import Place
from feedback.interactions import InteractionStore
from feedback.learning.datasets import from_bytes
from feedback.served import Served, ServedChoice, pack
from feedback.store import FeedbackStore
from feedback.token_ids import unpack_ids
from feedback.types import Feedback, Interaction
from trainer.model.encoding import encode_prompt
from trainer.model.recorded import Encoder
from trainer.model.warm import WarmModel
from trainer.runs.steps import Steps
from trainer.runs.watch import open_run

SERVED_FIRST = 9


def kept(model: WarmModel, prompt: Any) -> bytes:
    """A prompt that begins otherwise than the template has it, and an answer to it."""
    read = (SERVED_FIRST, *encode_prompt(model.tokenizer, prompt))
    return pack(Served((read,), (ServedChoice(0, (7, 7, 2), "stop"),)))


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
            tokens=kept(tiny_model, habits.ask(item)) if number % 2 else None,
        )
        answers.append([answer])
        corrected = habits.reply(item, "gladly !")
        said.put(Feedback(FeedbackId(f"f{number}"), tenant, 2.0, answer.id, correction=corrected))

    place = Place(settings, database, "base", settings.model)
    encode = Encoder(tiny_model.tokenizer, settings.train_max_length)
    steps = Steps(place, lambda: tiny_model, lambda name: settings.home / "runs" / name, encode)
    run, _ = open_run(steps.runs, adapter, "test", 0, None)
    digest = steps.snapshot(run.id)
    artifacts = ArtifactStore(settings.resolved_artifacts_url(), cache=settings.home / "cache")
    frozen = from_bytes(artifacts.read_bytes(Digest(digest)))
    prompts = [unpack_ids(pair.ids[0]) for pair in (*frozen.train_pairs, *frozen.held_out_pairs)]
    # All are trained by ids: half of them are those that were served, which no template makes.
    assert sorted(ids[0] == SERVED_FIRST for ids in prompts) == [False] * 10 + [True] * 10
    (planned,) = steps.plan(run.id, digest)
    assert planned.name == "sft-fresh"
    steps.train(run.id, digest, planned)
    verdict = steps.publish(run.id, digest, steps.evaluate(run.id, digest, planned))
    assert verdict.promoted, verdict.reasons
    version = registry.version(adapter.id, 1)
    assert (version.state, version.run_id, version.note) == ("live", run.id, "sft-fresh")
