"""A worker for the test of upgrades: everything real but the model, its measuring, the builder.

Run as `python former_worker.py BUILDER...`; ends when told to.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from core.settings import Settings  # noqa: E402
from deploy.export.kind import Export  # noqa: E402
from trainer.runs.kind import TrainingRun  # noqa: E402
from trainer.runs.steps import Judged, Steps  # noqa: E402
from trainer.types import Check, Evaluation, Interval, Verdict  # noqa: E402
from trainer.worker import Worker  # noqa: E402


@dataclass(frozen=True)
class Model:
    digest: str = "m" * 64


class Measuring(Steps):
    """Finds every candidate it is asked about better than what is live."""

    def _judge(self, run: Any, adapter: Any, frozen: Any, folder: Path, name: str) -> Judged:
        interval = Interval(0.8, 0.5, 1.1, 10)
        passed = Verdict(True, (Check("preference margin", True, "0.8 of 10"),))
        return Judged(folder, name, Evaluation(interval, 1.0, 1.0, None, 10, 0, 0.1), passed)


class Run(TrainingRun):
    model = Model()  # type: ignore[assignment]

    @cached_property
    def steps(self) -> Steps:
        return Measuring(self.place, lambda: self.model, self.folder)

    def prepare(self) -> None:
        """No libraries, no model."""


class Built(Export):
    builder = sys.argv[1:]


if __name__ == "__main__":
    Worker(Settings(), [Run, Built]).run(lambda: False)
