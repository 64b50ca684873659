"""Finished runs of `attune bench learn`: kept in a file, found again, summed up over seeds.

Pure but for reading the file. Must not know: how a run is measured.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run depends on besides its taste, seed and number of thumbs; `base` is a digest."""

    base: str
    tokens: int
    questions: int


def kept(runs: Path, setting: Setting) -> list[dict[str, Any]]:
    """The runs of this setting in the file; a last line that was cut off is passed over."""
    found = []
    for line in runs.read_text(encoding="utf-8").splitlines() if runs.is_file() else ():
        with suppress(ValueError):
            run = json.loads(line)
            if isinstance(run, dict) and all(
                run.pop(name, None) == value for name, value in asdict(setting).items()
            ):
                found.append(run)
    return found


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds by taste and thumbs, and what failed altogether."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["taste"], run["judgements"]), []).append(run)
    means = []
    for (taste, count), group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1])):
        named = ("preferred_before", "preferred_after", "prompted", "neutral_perplexity_ratio")
        mean = {name: statistics.fmean(run[name] for run in group) for name in named}
        before, after = mean["preferred_before"], mean["preferred_after"]
        learnt = after - before >= 0.25 or (before > 0 and after >= 2 * before)
        means.append({"taste": taste, "judgements": count, **mean, "learnt": learnt})
    failed = [
        f"{run['taste']}, seed {run['seed']}, {run['judgements']} thumbs: {run['error']}"
        for run in runs
        if run["state"] == "failed"
    ]
    return {"means": means, "failed_because": failed}
