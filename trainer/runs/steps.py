"""The steps of a run as plain functions: each may be repeated after a crash and then finds its
own earlier work. What they leave on disk appears by rename; what they leave in SQL is keyed by
the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.artifacts.store import ArtifactStore
from adapters.bases import Bases, identify
from adapters.registry import Registry
from adapters.types import Adapter, Version
from adapters.validate import BaseModel, validate_adapter
from core.errors import Conflict, Invalid
from core.ids import Digest
from core.work.kind import Place
from core.work.ledger import Ledger
from feedback.learning.datasets import counts, freeze, from_bytes, register, to_bytes
from feedback.learning.reading import read_feedback
from feedback.learning.recorded import Encode, anything_fits
from feedback.store import FeedbackStore
from feedback.types import Snapshot
from trainer.judging.gate import choose, judge
from trainer.judging.suite import GENERAL_SUITE, SuiteItem, load_suite
from trainer.methods import METHODS
from trainer.methods.folders import scaled
from trainer.runs.due import left_out
from trainer.runs.plan import Candidate, can_continue, candidates, gate_limits, hyperparameters
from trainer.types import RUN, Evaluation, Progress, Run, Sample, Verdict

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

_SEED = 0
SCALES = (1.0, 0.75, 0.5)
"""Shares of the update that are tried, the whole first: a smaller one forgets less."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate at one scale, measured and judged."""

    folder: Path
    name: str
    evaluation: Evaluation
    verdict: Verdict


class Steps:
    """The steps of one worker; they share its warm model and its stores."""

    def __init__(
        self,
        place: Place,
        model: Callable[[], WarmModel],
        folder: Callable[[str], Path],
        encode: Encode = anything_fits,
    ) -> None:
        settings, database = place.settings, place.database
        self._settings = settings
        self._model = model
        self._encode = encode
        self._folder = folder  # where a run keeps its candidates until it ends
        self.runs = Ledger(database, RUN)
        self._registry = Registry(database)
        self._bases = Bases(database)
        self._feedback = FeedbackStore(database)
        self._database = database
        self._artifacts = ArtifactStore(
            settings.resolved_artifacts_url(), cache=settings.home / "cache"
        )

    @cached_property
    def _base(self) -> BaseModel:
        return identify(self._settings.model, self._settings.home)

    def snapshot(self, run_id: str) -> str:
        """Freeze what can be learnt now; the snapshot's digest.

        Raises Conflict where adapters are served on another base model by now.
        """
        run = self.runs.advance(run_id, "snapshot")
        self._require_base(run)
        adapter = self._adapter(run)
        newest = self._settings.learn_max_items
        found = read_feedback(self._feedback, adapter, self._encode, newest=newest)
        if not found.labels and not found.pairs:
            why = left_out(found.dropped, self._settings.train_max_length)
            raise Invalid(
                f"There is nothing to learn from. Left out of what was said: {why}. See "
                "docs/feedback.md for the reasons."
            )
        frozen = freeze(
            adapter.id,
            found.labels,
            found.pairs,
            found.dropped,
            adapter.learning.held_out_share,
        )
        register(self._database, frozen, self._artifacts.put_bytes(to_bytes(frozen)))
        self.runs.advance(run_id, "snapshot", snapshot_digest=frozen.digest)
        tally = counts(frozen)
        self.runs.event(
            run_id,
            "message",
            f"Snapshot {frozen.digest[:12]}: {tally['labels_up']} up, {tally['labels_down']} down, "
            f"{len(frozen.train_pairs) + len(frozen.held_out_pairs)} pairs; "
            f"{len(frozen.held_out_labels) + len(frozen.held_out_pairs)} held out, "
            f"{tally['dropped']} left out.",
            {**tally, "reasons": dict(frozen.dropped)},
            key="snapshot",
        )
        return frozen.digest

    def plan(self, run_id: str, digest: str) -> list[Candidate]:
        """The candidates to train."""
        run = self.runs.find(run_id)
        frozen = self._snapshot(digest)
        adapter, live = self._adapter(run), run.facts.live_before
        version = None if live is None else self._registry.version(adapter.id, live)
        return candidates(frozen, adapter.learning, has_live=can_continue(version))

    def train(self, run_id: str, digest: str, candidate: Candidate) -> None:
        """Train one candidate into the run's folder."""
        from trainer.methods.loop import Training, train

        run = self.runs.advance(run_id, "train")
        self._require_base(run)
        out = self._folder(run_id) / candidate.name
        if out.is_dir():
            return
        frozen = self._snapshot(digest)
        method = METHODS[candidate.method]
        examples = method.examples(frozen)
        self.runs.event(
            run_id,
            "message",
            f"Training {candidate.method.upper()} {candidate.start} on {len(examples)} examples.",
            key=f"train:{candidate.name}",
        )
        training = Training(
            method=method,
            examples=examples,
            hyperparameters=hyperparameters(self._settings, self._model().parameters),
            out=out,
            start=candidate.start,
            live_adapter=self._live(self._adapter(run), run),
            on_progress=partial(self._report, run_id, candidate.name),
            stop=lambda: self._cancelled(run),
        )
        result = train(self._model(), training)
        self.runs.event(
            run_id,
            "message",
            f"Trained {candidate.name}: {result.steps} steps in {result.train_s:.1f} s, "
            f"final loss {result.final_loss:.4f}.",
            asdict(result) | {"path": str(result.path), "name": candidate.name},
            key=f"trained:{candidate.name}",
        )

    def evaluate(self, run_id: str, digest: str, candidate: Candidate) -> list[Judged]:
        """Measure a candidate at shrinking scales until one passes; all that were measured."""
        run = self.runs.advance(run_id, "evaluate")
        self._require_base(run)
        adapter = self._adapter(run)
        frozen = self._snapshot(digest)
        judged: list[Judged] = []
        for scale in SCALES:
            name = candidate.name if scale == 1.0 else f"{candidate.name}-x{scale:g}"
            folder = self._folder(run_id) / name
            if not folder.is_dir():
                scaled(self._folder(run_id) / candidate.name, scale, folder)
            one = self._judge(run, adapter, frozen, folder, name)
            judged.append(one)
            self.runs.event(
                run_id,
                "message",
                f"{name}: {'passes' if one.verdict.promoted else 'fails'} the gate. "
                + "; ".join(one.verdict.reasons),
                {"name": name, **asdict(one.verdict), "evaluation": asdict(one.evaluation)},
                key=f"judged:{name}",
            )
            if one.verdict.promoted or self._cancelled(run):
                break
        return judged

    def publish(self, run_id: str, digest: str, judged: list[Judged]) -> Verdict:
        """Register the best candidate; make it live if the gate passed it."""
        before = self.runs.find(run_id)
        if not before.is_active and before.facts.verdict is not None:
            return before.facts.verdict  # done, but killed before anybody noted it
        run = self.runs.advance(run_id, "gate", stoppable=False)
        if run.cancel_requested_at_s is not None and run.facts.version is None:
            raise Conflict(
                "The run was cancelled before its candidate was published.", code="cancelled"
            )
        self._require_base(run)
        adapter = self._adapter(run)
        best = choose([(one.evaluation, one.verdict) for one in judged])
        chosen = judged[best if best is not None else 0]
        info = validate_adapter(chosen.folder, self._base, max_rank=self._settings.max_lora_rank)
        self._artifacts.put_folder(chosen.folder)
        version = self._registry.add_version(
            adapter.id,
            info,
            source="run",
            run_id=run_id,
            parent=run.facts.live_before if "continued" in chosen.name else None,
            note=chosen.name,
        )
        self.runs.advance(run_id, "publish", stoppable=False, version=version.number)
        if best is None:
            self._registry.reject(adapter.id, version.number)
            self._end(run, "rejected", chosen, version)
        else:
            self._promote(run, adapter, version, chosen)
        return chosen.verdict

    def _promote(self, run: Run, adapter: Adapter, version: Version, chosen: Judged) -> None:
        # Live or retired: this run has published before it was interrupted. What has happened to
        # the version since, a rollback perhaps, stands.
        if version.state not in ("live", "retired"):
            if adapter.live_version != run.facts.live_before:
                self._registry.reject(adapter.id, version.number)
                raise Conflict(
                    f"The live version became {adapter.live_version} while the candidate was "
                    f"judged against {run.facts.live_before}; version {version.number} is kept as "
                    "rejected. The next feedback starts a new run."
                )
            self._registry.activate(
                adapter,
                version.number,
                actor=f"gate of {run.id}",
                reason="; ".join(chosen.verdict.reasons)[:2000],
            )
        self._end(run, "succeeded", chosen, version)

    def _end(self, run: Run, state: str, chosen: Judged, version: Version) -> None:
        told = "live" if state == "succeeded" else "rejected"
        self.runs.event(run.id, "message", f"Version {version.number} is {told}.", key="end")
        samples = tuple(Sample(*one) for one in chosen.evaluation.samples)
        self.runs.finish(
            run.id, state, verdict=chosen.verdict, samples=samples, version=version.number
        )

    def _judge(
        self, run: Run, adapter: Adapter, frozen: Snapshot, folder: Path, name: str
    ) -> Judged:
        from trainer.judging.evaluate import evaluate

        model = self._model()
        measured = evaluate(
            model,
            candidate=folder,
            live=self._live(adapter, run),
            labels=frozen.held_out_labels,
            pairs=frozen.held_out_pairs,
            suite=self._suite(is_chat=bool(model.tokenizer.chat_template)),
            seed=_SEED,
            learnt=(*frozen.train_labels, *frozen.train_pairs),
        )
        return Judged(folder, name, measured, judge(measured, gate_limits(self._settings)))

    def _suite(self, *, is_chat: bool) -> tuple[SuiteItem, ...]:
        """What the operator or the model brings, else the general one for models that chat."""
        path = self._settings.resolved_regression_suite() or (GENERAL_SUITE if is_chat else None)
        return load_suite(path) if path else ()

    def _require_base(self, run: Run) -> None:
        self._bases.require(self._base, since_s=run.created_at_s)

    def _adapter(self, run: Run) -> Adapter:
        assert run.adapter_id is not None  # every run is an adapter's
        return self._registry.by_id(run.adapter_id)

    def _snapshot(self, digest: str) -> Snapshot:
        return from_bytes(self._artifacts.read_bytes(Digest(digest)), digest=digest)

    def _live(self, adapter: Adapter, run: Run) -> Path | None:
        if run.facts.live_before is None:
            return None
        version = self._registry.version(adapter.id, run.facts.live_before)
        return self._artifacts.folder(version.digest)

    def _cancelled(self, run: Run) -> bool:
        return self.runs.find(run.id).cancel_requested_at_s is not None

    def _report(self, run_id: str, name: str, progress: Progress) -> None:
        figures = {"step": progress.step, "steps": progress.steps, **progress.metrics}
        self.runs.event(run_id, "metrics", name, figures, key=f"{name}:{progress.step}")
