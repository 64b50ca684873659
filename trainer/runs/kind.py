"""The training run as a kind of work: what is known of one, how it is opened, shown, carried out.

Importing it loads no torch; the steps do when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from adapters.registry import Registry
from core.bodies import Body, Resource, Time, says
from core.errors import Conflict
from core.ids import TenantId
from core.work.kind import Durable, Kind, Listing, Place
from core.work.types import Work
from core.work.watermarks import Watermarks
from feedback.learning.recorded import Encode, Recorded
from feedback.store import FeedbackStore
from feedback.token_ids import Ids
from trainer.runs.steps import Judged, Steps
from trainer.runs.watch import Watch, open_run
from trainer.types import RUN, RunFacts, Sample, Verdict

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel


class RunOrder(Body):
    """Ask for a run of an adapter now, whatever the triggers say."""

    adapter: Annotated[str, says("Name the adapter to train.")]


class RunListing(Listing):
    """Which runs to list."""

    adapter: str | None = Field(None, description="Only runs of this adapter.")


class RunView(Resource):
    """A training run: why it was begun, how far it is, how its candidate was judged."""

    object: Literal["run"] = "run"
    adapter_id: str
    state: str
    trigger: str
    created_at: Time = Field(validation_alias="created_at_s")
    finished_at: Time = Field(validation_alias="finished_at_s")
    snapshot: str | None = Field(validation_alias="snapshot_digest")
    live_before: int | None
    version: int | None
    verdict: Verdict | None
    samples: tuple[Sample, ...]
    error: str | None


class TrainingRun(Kind[RunFacts, RunOrder]):
    """Training runs: at most one under way per adapter."""

    spec = RUN
    order = RunOrder
    listing = RunListing
    view = RunView

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._registry = Registry(place.database)
        self._feedback = FeedbackStore(place.database)
        self._marks = Watermarks(place.database)
        settings = place.settings
        self._watch = Watch(
            place.database,
            self._encode,
            max_items=settings.learn_max_items,
            max_length=settings.train_max_length,
        )

    @cached_property
    def model(self) -> WarmModel:
        """The base model, loaded at the first run and kept warm."""
        from trainer.model.warm import WarmModel

        settings = self.place.settings
        return WarmModel(settings.model, threads=settings.trainer_threads)

    @cached_property
    def steps(self) -> Steps:
        """What a run does, step by step."""
        return Steps(self.place, lambda: self.model, self.folder, self._encode)

    @cached_property
    def _encoder(self) -> Encode:
        from trainer.model.recorded import Encoder

        return Encoder(self.model.tokenizer, self.place.settings.train_max_length)

    def _encode(self, recorded: Recorded) -> tuple[Ids | None, Ids | None]:
        return self._encoder(recorded)

    def open(self, tenant_id: TenantId, order: RunOrder) -> Work[RunFacts]:
        """Open a run by hand. Raises NotFound for an unknown adapter, Conflict for a busy one."""
        adapter = self._registry.get(tenant_id, order.adapter)
        mark = self._marks.of([adapter.id])[adapter.id]
        news = self._feedback.news(adapter.id, mark)
        seq, at_s = (news.max_seq, news.newest_at_s) if news else (mark, None)
        run, is_new = open_run(self.ledger, adapter, "asked for by hand", seq, at_s)
        if not is_new:
            raise Conflict(f"A run of '{adapter.name}' is under way already; see GET /v1/runs.")
        return run

    def where(self, tenant_id: TenantId, asked: Mapping[str, Any]) -> Mapping[str, str | None]:
        """An adapter is asked for by name. Raises NotFound for an unknown one."""
        name = asked["adapter"]
        return {"adapter_id": self._registry.get(tenant_id, name).id if name else None}

    def workflow(self, durable: Durable) -> Callable[[str], object]:
        """Freeze what was said, train candidates, judge them, publish the best that passes."""
        snapshot, plan = durable(self.steps.snapshot), durable(self.steps.plan)
        train, evaluate = durable(self.steps.train), durable(self.steps.evaluate)
        publish = durable(self.steps.publish)

        def learn(run_id: str) -> object:
            digest = snapshot(run_id)
            planned = plan(run_id, digest)
            for candidate in planned:
                train(run_id, digest, candidate)
            judged: list[Judged] = []
            for candidate in planned:
                judged += evaluate(run_id, digest, candidate)
            return publish(run_id, digest, judged)

        return learn

    def prepare(self) -> None:
        """Import the training libraries and load the model before the first run needs them."""
        import trainer.judging.evaluate
        import trainer.methods.loop  # noqa: F401
        from trainer.model.encoding import encode_prompt
        from trainer.model.sampling import answers

        answers(self.model, [encode_prompt(self.model.tokenizer, ".")], None, 0.0, 1, 0)

    def look(self) -> None:
        """Open runs for the adapters that are due."""
        self._watch.open_due_runs()
