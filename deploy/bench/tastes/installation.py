"""An installation of a bench's own that learns as any other: stores, feedback, a run, a version.

Owns a home folder and the one warm model. What is rated becomes recorded answers with the tokens
they were sampled as and feedback on them; from there the run's own workflow does everything, step
by step and without DBOS, which only remembers steps. Must not know: tastes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from adapters.artifacts.store import ArtifactStore
from adapters.registry import Registry
from adapters.types import Adapter, Learning
from core.clock import now_s
from core.database import Database
from core.errors import AttuneError, Conflict
from core.identity.tenants import TenantStore
from core.ids import CompletionId, FeedbackId
from core.settings import Settings
from core.work.kind import Place
from deploy.bench.tastes.asking import Received, plain
from feedback.interactions import InteractionStore
from feedback.served import Served, ServedChoice, pack
from feedback.store import FeedbackStore
from feedback.types import Feedback, Interaction
from trainer.runs.kind import RunOrder, TrainingRun

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

P = ParamSpec("P")
R = TypeVar("R")
_ALL_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a run made of thumbs: `state` as the ledger has it, `folder` of its version.

    `evaluation` and `trained` are the figures in the run's log, empty where it came to none.
    """

    state: str
    error: str | None
    folder: Path | None
    candidate: str
    evaluation: Mapping[str, Any]
    reasons: tuple[str, ...]
    trained: Mapping[str, Any]
    seconds: float

    @property
    def is_live(self) -> bool:
        """Whether the gate let it through."""
        return self.state == "succeeded"


class Installation:
    """One tenant on one base model; every call of `learn` is an adapter of its own."""

    def __init__(self, home: Path, model: Path) -> None:
        settings = Settings(home=home, model=str(model), database_url="", artifacts_url="")
        database = Database(settings.resolved_database_url())
        database.upgrade()
        self._tenant = TenantStore(database).create("bench").id
        self._registry = Registry(database)
        self._answers, self._feedback = InteractionStore(database), FeedbackStore(database)
        self._artifacts = ArtifactStore(settings.resolved_artifacts_url(), cache=home / "cache")
        self._runs = TrainingRun(Place(settings, database, settings.served_name, settings.model))

    @property
    def model(self) -> WarmModel:
        """The base model, loaded on first use."""
        return self._runs.model

    def learn(self, name: str, rated: Iterable[tuple[Received, bool]]) -> Learnt:
        """Record rated answers of a new adapter, carry out a run of it, tell what it made."""
        adapter = self._registry.create(self._tenant, name, learning=Learning(enabled=False))
        self._record(adapter, list(rated))
        run = self._runs.open(self._tenant, RunOrder(adapter=name))
        began_s = time.monotonic()
        try:
            self._runs.workflow(_at_once)(run.id)
        except AttuneError as error:
            self._end(run.id, error)
        return self._told(run.id, time.monotonic() - began_s)

    def _record(self, adapter: Adapter, rated: list[tuple[Received, bool]]) -> None:
        for number, (answer, liked) in enumerate(rated):
            completion = CompletionId(f"chatcmpl-{adapter.id}-{number}")
            self._answers.append([_interaction(adapter, completion, answer)])
            self._feedback.put(
                Feedback(
                    id=FeedbackId(f"fb-{adapter.id}-{number}"),
                    tenant_id=self._tenant,
                    created_at_s=now_s(),
                    completion_id=completion,
                    value=liked,
                    end_user=f"user {number}",
                )
            )

    def _end(self, run_id: str, error: AttuneError) -> None:
        try:
            self._runs.ledger.finish(run_id, "failed", error=error.message)
        except Conflict:
            return  # it had ended already

    def _told(self, run_id: str, seconds: float) -> Learnt:
        run = self._runs.ledger.find(run_id)
        events = self._runs.ledger.events(run_id, limit=_ALL_EVENTS)
        version, candidate, folder = run.facts.version, "", None
        if version is not None and run.adapter_id is not None:
            made = self._registry.version(run.adapter_id, version)
            candidate, folder = made.note, self._artifacts.folder(made.digest)
        named = [event.data for event in events if event.data.get("name")]
        judged = [data for data in named if data["name"] == candidate and "evaluation" in data]
        trained = [data for data in named if candidate.startswith(data["name"]) and "steps" in data]
        trained.sort(key=lambda data: len(data["name"]))  # the longest is of the candidate itself
        verdict = run.facts.verdict
        return Learnt(
            state=run.state,
            error=run.error,
            folder=folder,
            candidate=candidate,
            evaluation=judged[-1]["evaluation"] if judged else {},
            reasons=verdict.reasons if verdict else (),
            trained=trained[-1] if trained else {},
            seconds=seconds,
        )


def _at_once(method: Callable[P, R]) -> Callable[P, R]:
    """A step that nobody needs to remember."""
    return method


def _interaction(adapter: Adapter, completion: CompletionId, answer: Received) -> Interaction:
    reason = "stop" if answer.said.ended else "length"
    served = Served((answer.prompt_ids,), (ServedChoice(0, answer.ids, reason),))
    return Interaction(
        id=completion,
        tenant_id=adapter.tenant_id,
        endpoint="chat.completions",
        created_at_s=now_s(),
        outcome="completed",
        model_requested=adapter.name,
        model_answered="base",
        adapter_id=adapter.id,
        version=None,
        explored=False,
        prompt=plain(answer.question),
        answers=(answer.said.text,),
        finish_reason=reason,
        prompt_tokens=len(answer.prompt_ids),
        completion_tokens=len(answer.ids),
        tokens=pack(served),
    )
