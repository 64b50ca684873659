"""What a training costs on this machine: the same thumbs, rows and steps as plain TRL computes
them and as Attune does, one after the other, and what either learnt."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from rich.table import Table

from core.settings import Settings
from deploy.bench.results import figure_table
from deploy.bench.setting import progress
from feedback.token_ids import pack_ids, unpack_ids
from feedback.types import Label
from trainer.methods import METHODS
from trainer.runs.plan import hyperparameters
from trainer.types import Hyperparameters, Progress

if TYPE_CHECKING:
    from trainer.methods.fitting import Fit
    from trainer.model.warm import WarmModel

_TASKS = (
    "boil an egg", "clean a window", "pack a suitcase", "plant tomatoes", "tie a scarf",
    "remove a coffee stain", "save water at home", "fall asleep faster", "learn new words",
    "make pancakes", "train a puppy", "fix a flat tyre", "choose a laptop", "write a short letter",
    "prepare for an interview", "cook rice", "organise a desk", "start running", "store potatoes",
    "wash a woollen jumper", "plan a birthday", "read faster", "sharpen a knife", "paint a wall",
    "save money each month", "water houseplants", "make lemonade", "defrost a freezer",
    "stay focused", "iron a shirt", "bake bread", "back up photos",
)  # fmt: skip
_FORMS = ("How do I {}?", "What is a good way to {}?", "Can you help me {}?", "I want to {}. Tips?")
_ANSWER_TOKENS = 48
_HELD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class _Said:
    """Thumbs, and those that nothing learns from."""

    learnt: Sequence[Label]
    held_out: Sequence[Label]


def measure(*, model: str = "", thumbs: int = 96, steps: int | None = None) -> dict[str, Any]:
    """Run the benchmark: a KTO run with the settings of this installation, twice.

    `plain` and `attune`: seconds, processor seconds and seconds a step, the held-out margin in
    nats; `ratio`: how many times faster.
    """
    from trainer.model.warm import WarmModel

    warm = WarmModel(model or Settings().model, threads=Settings().trainer_threads)
    ours = hyperparameters(Settings(), warm.parameters)
    ours = ours if steps is None else replace(ours, steps=steps)
    plain = replace(ours, precompute=False, kl_rows=0, precision="float32")
    with progress.status("Asking the model …"):
        said = _thumbs(warm, thumbs)
    figures: dict[str, Any] = {
        "parameters": warm.parameters,
        "thumbs": len(said.learnt),
        "steps": ours.steps,
    }
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
        for name, how in (("attune", ours), ("plain", plain)):
            with progress.status(f"Training ({name}) …"):
                figures[name] = _trained(warm, said, how, Path(folder) / name)
    for kind in ("seconds", "processor_s"):
        figures[f"{kind}_ratio"] = figures["plain"][kind] / figures["attune"][kind]
    return figures


def table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench train` shows."""
    columns = ("", "seconds", "a step", "processor s", "threads", "held-out margin")
    rows = [
        (
            title,
            f"{one['seconds']:.0f}",
            f"{one['step_s']:.2f}",
            f"{one['processor_s']:.0f}",
            str(one["threads"]),
            f"{one['margin']:+.2f}",
        )
        for title, one in (("plain TRL", figures["plain"]), ("Attune", figures["attune"]))
    ]
    return figure_table(
        f"{figures['thumbs']} thumbs, {figures['steps']} steps of KTO",
        columns,
        rows,
        f"{figures['seconds_ratio']:.1f} times faster by the clock, "
        f"{figures['processor_s_ratio']:.1f} times by processor time.",
    )


def _thumbs(model: WarmModel, count: int) -> _Said:
    """Thumbs of somebody who likes the shortest sixth of the answers that the model gave."""
    from trainer.model.encoding import encode_prompt
    from trainer.model.sampling import answers

    asked = [form.format(task) for form in _FORMS for task in _TASKS]
    random.Random(0).shuffle(asked)
    prompts = [({"role": "user", "content": one},) for one in asked[:count]]
    heads = [encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    given = answers(model, heads, None, 0.7, _ANSWER_TOKENS, seed=0)
    longest = sorted(len(one.text) for one in given)[count // 6]
    labels = [
        Label(
            prompt,
            one.text,
            len(one.text) <= longest,
            version=None,
            end_user=None,
            at_s=0.0,
            feedback_ids=(),
            interaction_ids=(),
            ids=(pack_ids(head), pack_ids(one.ids)),
        )
        for prompt, head, one in zip(prompts, heads, given, strict=True)
    ]
    liked = [label for label in labels if label.desirable]
    others = [label for label in labels if not label.desirable]
    sides: tuple[list[Label], list[Label]] = ([], [])
    for kind in (liked, others):
        held_out = round(_HELD_OUT * len(kind))
        sides[0].extend(kind[held_out:])
        sides[1].extend(kind[:held_out])
    return _Said(*sides)


def _ids(label: Label) -> tuple[bytes, bytes]:
    assert label.ids is not None  # all were sampled here
    return label.ids


def _trained(model: WarmModel, said: _Said, how: Hyperparameters, out: Path) -> dict[str, Any]:
    from trainer.methods.loop import Training, train
    from trainer.model.scoring import logprobs

    threads: list[int] = []
    fits: list[Fit] = []
    at_s: list[float] = []

    def told(_: Progress) -> None:
        threads.append(model.threads.adapt())
        at_s.append(time.process_time())

    began_s, used_s = time.monotonic(), time.process_time()
    training = Training(
        METHODS["kto"],
        said.learnt,
        how,
        out,
        on_progress=told,
        on_fit=fits.append,
    )
    train(model, training)
    seconds, processor_s = time.monotonic() - began_s, time.process_time() - used_s
    items = [(unpack_ids(head), unpack_ids(answer)) for head, answer in map(_ids, said.held_out)]
    before, after = logprobs(model, items, None), logprobs(model, items, out)
    gains: dict[bool, list[float]] = {True: [], False: []}
    for label, old, new in zip(said.held_out, before, after, strict=True):
        gains[label.desirable].append(new - old)
    return {
        "seconds": seconds,
        "step_s": seconds / how.steps,
        "processor_s": processor_s,
        "step_processor_s": median(b - a for a, b in pairwise(at_s)) if len(at_s) > 1 else None,
        "threads": round(mean(threads), 1),
        "estimated_s": fits[0].seconds if fits else None,
        "margin": mean(gains[True] or [0.0]) - mean(gains[False] or [0.0]),
    }
