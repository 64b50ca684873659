"""What thumbs teach a chat model: three tastes on everyday questions, beside prompting for them.

Owns the experiment: who rates how much, what is asked before and after, how runs are kept so that
a bench of an hour can be interrupted. The learning itself is a run like any other
(`deploy.bench.tastes.installation`).
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters.artifacts.digest import weights_digest
from core.errors import Invalid
from core.files import disk_trouble
from deploy.bench.real_model import require_model
from deploy.bench.results import figure_table
from deploy.bench.setting import progress
from deploy.bench.tastes.asking import TEMPERATURE, Received, ask, plain
from deploy.bench.tastes.installation import Installation, Learnt
from deploy.bench.tastes.judges import TASTES, broken
from deploy.bench.tastes.neutral import perplexity
from deploy.bench.tastes.people import Stream, Thumbs, rate
from deploy.bench.tastes.prompting import prompted
from deploy.bench.tastes.questions import MOST_HELD_OUT, questions
from deploy.bench.tastes.runs import Setting, kept, summary

RUNS = Path("deploy/bench/results/learn.runs.jsonl")
SHOWN = 12
"""Held-out questions whose answers before, after and prompted are kept as texts."""
_AT_ONCE = 150
"""Questions that people ask at a time: two of the sampler's batches."""
_ROUND = 1_000_000
"""Seeds of the rounds of one seed lie this close together."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The base under one seed: what people rate, and what it says to held-out questions."""

    held_out: tuple[str, ...]
    stream: Stream
    before: tuple[Received, ...]
    perplexity: float


def measure(
    *,
    model: Path,
    tastes: Sequence[str] = tuple(TASTES),
    seeds: int = 2,
    thumbs: Sequence[int] = (32, 128),
    tokens: int = 96,
    held_out: int = 96,
    runs: Path = RUNS,
    resume: bool = False,
) -> dict[str, Any]:
    """Every taste at every number of thumbs under every seed; `runs` gets each as it is done.

    With `resume`, runs of the same setting that are in the file already are not measured again.
    Raises Invalid for a taste that there is not and for more questions than there are.
    """
    _require(tastes, held_out)
    require_model(model)
    setting = Setting(weights_digest(model)[:12], tokens, held_out)
    done = kept(runs, setting) if resume else []
    known = {(run["taste"], run["seed"], run["judgements"]) for run in done}
    wanted = [
        (taste, seed, count)
        for seed in range(seeds)
        for taste in dict.fromkeys(tastes)
        for count in dict.fromkeys(thumbs)
        if (taste, seed, count) not in known
    ]
    if wanted:
        # A line that was cut off must not spoil the next one.
        _keep(runs, "\n" if resume else "", "a" if resume else "w")
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as home:
        for run in _measured(Installation(Path(home), model), setting, wanted):
            done.append(run)
            _keep(runs, json.dumps({**asdict(setting), **run}) + "\n", "a")
            progress.print(_told(run, len(done), len(wanted) + len(known)))
    done.sort(key=lambda run: (run["taste"], run["judgements"], run["seed"]))
    told = {"model": model.name, "temperature": TEMPERATURE}
    return {**told, **asdict(setting), "runs": done, **summary(done)}


def table(figures: Mapping[str, Any]) -> Table:
    """A row for each run."""
    rows = [
        [
            run["taste"],
            str(run["seed"]),
            str(run["judgements"]),
            f"{run['preferred_before']:.0%}",
            f"{run['preferred_after']:.0%}" if run["live"] else f"({run['preferred_version']:.0%})",
            f"{run['prompted']:.0%}",
            f"{run['neutral_perplexity_ratio']:.3f}",
            f"{run['kl']:.2f}",
            f"{run['seconds']:.0f}",
            f"{run['broken_after']}",
        ]
        for run in figures["runs"]
    ]
    head = ["taste", "seed", "thumbs", "before", "after", "prompt", "ppl", "KL", "s", "bad"]
    caption = (
        "before, after, prompt: preferred among "
        f"{figures['questions']} held-out answers of the base, the version, and the base with "
        "liked answers in its prompt; in brackets a version that the gate kept back; ppl: "
        "perplexity of neutral prose against the base's; KL: nats an answer; bad: broken answers "
        "after"
    )
    return figure_table("What thumbs teach", head, rows, caption)


def _keep(runs: Path, text: str, mode: str) -> None:
    with disk_trouble("the file of finished runs", "Name another by --runs, or make room."):
        runs.parent.mkdir(parents=True, exist_ok=True)
        with runs.open(mode, encoding="utf-8") as file:
            file.write(text)


def _require(tastes: Sequence[str], held_out: int) -> None:
    if unknown := sorted(set(tastes) - set(TASTES)):
        raise Invalid(f"There is no taste {', '.join(unknown)}: choose from {', '.join(TASTES)}.")
    if held_out > MOST_HELD_OUT:
        raise Invalid(f"At most {MOST_HELD_OUT} questions can be held out.", param="questions")


def _measured(
    place: Installation, setting: Setting, wanted: Sequence[tuple[str, int, int]]
) -> Iterator[dict[str, Any]]:
    seeds: dict[int, Asked] = {}
    for taste, seed, count in wanted:
        if seed not in seeds:
            seeds = {seed: _asked(place, setting, seed)}
        yield _run(place, setting, seeds[seed], taste, seed, count)


def _asked(place: Installation, setting: Setting, seed: int) -> Asked:
    rated, held_out = questions(seed, setting.questions)
    model = place.model

    def received(number: int) -> list[Received]:
        """The next questions, from the first again after the last."""
        first = number * _AT_ONCE
        chats = [plain(rated[at % len(rated)]) for at in range(first, first + _AT_ONCE)]
        return ask(model, chats, None, tokens=setting.tokens, seed=seed * _ROUND + number + 1)

    return Asked(
        tuple(held_out),
        Stream(received),
        tuple(_answers(place, setting, held_out, None, seed)),
        perplexity(model, None),
    )


def _answers(
    place: Installation, setting: Setting, held_out: Sequence[str], adapter: Path | None, seed: int
) -> list[Received]:
    chats = [plain(question) for question in held_out]
    return ask(place.model, chats, adapter, tokens=setting.tokens, seed=seed * _ROUND)


def _run(
    place: Installation, setting: Setting, base: Asked, taste: str, seed: int, count: int
) -> dict[str, Any]:
    likes = TASTES[taste]
    progress.print(f"{taste}, seed {seed}: rating {count} answers and learning …")
    thumbs = rate(base.stream, likes, count)
    learnt = place.learn(f"{taste}-{seed}-{count}", thumbs.rated)
    version = (
        base.before
        if learnt.folder is None
        else _answers(place, setting, base.held_out, learnt.folder, seed)
    )
    liked = [(answer.question, answer.said.text) for answer in thumbs.ups]
    began_s = time.monotonic()
    chats = [prompted(question, liked) for question in base.held_out]
    shown = ask(place.model, chats, None, tokens=setting.tokens, seed=seed * _ROUND)
    prompting_s = time.monotonic() - began_s
    ratio = (
        1.0 if learnt.folder is None else (perplexity(place.model, learnt.folder) / base.perplexity)
    )
    shares = {
        name: statistics.fmean(likes(answer.said) for answer in answers)
        for name, answers in (("before", base.before), ("version", version), ("prompted", shown))
    }
    return {
        "taste": taste,
        "seed": seed,
        "judgements": len(thumbs.rated),
        **_counted(thumbs),
        "preferred_before": shares["before"],
        # What people get: the base's answers still, where the gate kept the version back.
        "preferred_after": shares["version"] if learnt.is_live else shares["before"],
        "preferred_version": shares["version"],
        "prompted": shares["prompted"],
        "neutral_perplexity_ratio": ratio,
        **_judged(learnt),
        "prompting_s": prompting_s,
        "broken_before": sum(broken(answer.said) for answer in base.before),
        "broken_after": sum(broken(answer.said) for answer in version),
        "broken_prompted": sum(broken(answer.said) for answer in shown),
        "samples": [
            {
                "question": b.question,
                "before": b.said.text,
                "after": a.said.text,
                "prompted": p.said.text,
            }
            for b, a, p in zip(base.before[:SHOWN], version, shown, strict=False)
        ],
        "broken_answers": [answer.said.text for answer in version if broken(answer.said)],
    }


def _counted(thumbs: Thumbs) -> dict[str, int]:
    return {"ups": len(thumbs.ups), "answers_looked_at": thumbs.looked_at}


def _judged(learnt: Learnt) -> dict[str, Any]:
    """What the run itself says: its end, its gate's figures, its time."""
    suite = learnt.evaluation.get("suite") or {}
    return {
        "kl": learnt.evaluation.get("kl_to_base", 0.0),
        "seconds": learnt.seconds,
        "train_s": learnt.trained.get("train_s", 0.0),
        "stopped_at": learnt.trained.get("kept_step") or learnt.trained.get("steps", 0),
        "stopped_because": learnt.trained.get("stopped"),
        "candidate": learnt.candidate,
        "margin": (learnt.evaluation.get("margin") or {}).get("mean", 0.0),
        "suite_before": suite.get("base"),
        "suite_after": suite.get("candidate"),
        "state": learnt.state,
        "live": learnt.is_live,
        "reasons": list(learnt.reasons),
        "error": learnt.error,
    }


def _told(run: Mapping[str, Any], number: int, of: int) -> str:
    return (
        f"{number} of {of}: {run['taste']}, seed {run['seed']}, {run['judgements']} thumbs "
        f"({run['ups']} up): {run['preferred_before']:.0%} before, {run['preferred_version']:.0%} "
        f"after ({'live' if run['live'] else run['state']}), {run['prompted']:.0%} prompted; "
        f"{run['seconds']:.0f} s"
    )
