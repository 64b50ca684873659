"""The end of a run: the best candidate becomes a version, live if the gate passed it.

Must not know: how candidates are made or measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.artifacts.store import ArtifactStore
from adapters.registry import Registry
from adapters.types import Adapter, Version
from adapters.validate import BaseModel, validate_adapter
from core.errors import Conflict
from core.work.ledger import Ledger
from trainer.judging.gate import choose
from trainer.types import Evaluation, Run, RunFacts, Sample, Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate at one scale, measured and judged."""

    folder: Path
    name: str
    evaluation: Evaluation
    verdict: Verdict


class Publisher:
    """Registers what runs made for `base`, adapters of at most `max_rank`."""

    def __init__(
        self,
        runs: Ledger[RunFacts],
        registry: Registry,
        artifacts: ArtifactStore,
        base: BaseModel,
        *,
        max_rank: int,
    ) -> None:
        self._runs, self._registry, self._artifacts = runs, registry, artifacts
        self._base, self._max_rank = base, max_rank

    def publish(self, run: Run, adapter: Adapter, judged: Sequence[Judged]) -> Verdict:
        """Register the best of `judged`, of which there is one at least, and end the run.

        Raises Conflict where the live version is another than it was judged against.
        """
        best = choose([(one.evaluation, one.verdict) for one in judged])
        chosen = judged[best if best is not None else 0]
        info = validate_adapter(chosen.folder, self._base, max_rank=self._max_rank)
        self._artifacts.put_folder(chosen.folder)
        version = self._registry.add_version(
            adapter.id,
            info,
            source="run",
            run_id=run.id,
            parent=run.facts.live_before if "continued" in chosen.name else None,
            note=chosen.name,
        )
        self._runs.advance(run.id, "publish", stoppable=False, version=version.number)
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
        self._runs.event(run.id, "message", f"Version {version.number} is {told}.", key="end")
        samples = tuple(Sample(*one) for one in chosen.evaluation.samples)
        self._runs.finish(
            run.id, state, verdict=chosen.verdict, samples=samples, version=version.number
        )
