"""A training in a process of its own, whose memory is limited after its first step; prints JSON.

`python -m tests.support.little_memory OUT`: it trains without a limit, then under smaller and
smaller ones until memory has run out in the middle of a step.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path
from typing import Any

import psutil

from core.settings import SHIPPED_MODEL
from feedback.types import Label
from trainer.methods import METHODS
from trainer.methods.loop import Training, train
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters, Progress

HOW = Hyperparameters(steps=4, batch_size=8, tokens_at_once=4096, learning_rate=1e-4)
LIMITS_MIB = (80, 60, 45, 35, 25, 18)


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def limit(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))


def losses(model: WarmModel, out: Path, room_mib: int | None) -> list[float]:
    steps: list[float] = []

    def told(progress: Progress) -> None:
        steps.append(progress.metrics["loss"])
        if room_mib is not None and progress.step == 1:
            limit(psutil.Process().memory_info().vms + room_mib * 2**20)

    prompts = [({"role": "user", "content": f"Number {n}? " + "well " * 60},) for n in range(16)]
    labels = [
        Label(prompt, "so " * (8 + place), place % 3 == 0, None, None, 0.0, (), ())
        for place, prompt in enumerate(prompts)
    ]
    try:
        train(model, Training(METHODS["kto"], labels, HOW, out, on_progress=told))
    finally:
        limit(resource.RLIM_INFINITY)
    return steps


def main(folder: Path) -> None:
    heard = Heard()
    logging.getLogger("attune.trainer").addHandler(heard)
    model = WarmModel(str(SHIPPED_MODEL), threads=1, device="cpu")
    found: dict[str, Any] = {"free": losses(model, folder / "free", None), "said": heard.said}
    for room in LIMITS_MIB:
        found["limited"] = losses(model, folder / str(room), room)
        if heard.said:
            break
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
