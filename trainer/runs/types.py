"""What is known of a training run beyond what all work shares."""

from __future__ import annotations

from dataclasses import dataclass

from core.work.types import Spec, Work
from trainer.types import Verdict


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Why a run was opened, what it has made, how that was judged.

    `last_feedback_seq` is the watermark: the newest feedback known when it was opened.
    `live_before` is the version live at that time, `version` the candidate it made.
    """

    trigger: str
    last_feedback_seq: int
    last_feedback_at_s: float | None
    live_before: int | None
    snapshot_digest: str | None = None
    version: int | None = None
    verdict: Verdict | None = None


Run = Work[RunFacts]
"""One training run."""

RUN = Spec(
    name="learn",
    noun="run",
    prefix="run",
    active=("queued", "snapshot", "train", "evaluate", "gate", "publish"),
    ended={
        "succeeded": "succeeded",
        "rejected": "was rejected",
        "failed": "failed",
        "cancelled": "was cancelled",
    },
    facts=RunFacts,
)
