"""`attune bench`: what swaps and adapters cost on this machine. See docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.terminal import console

JsonLine = Annotated[
    bool, typer.Option("--json", help="One line of JSON on stdout; the table goes to stderr.")
]
Swaps = Annotated[int, typer.Option(min=1, help="How often the live version changes.")]
Streams = Annotated[int, typer.Option(min=1, help="Clients that stream without pause.")]
Tokens = Annotated[int, typer.Option(min=3, help="Tokens of an answer, on average.")]
Rounds = Annotated[int, typer.Option(min=1, help="Times each measurement is repeated.")]

Measure = Callable[[], dict[str, Any]]
Show = Callable[[Mapping[str, Any]], Table]

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@app.command("swap")
def swap(
    swaps: Swaps = 50, streams: Streams = 16, tokens: Tokens = 24, as_json: JsonLine = False
) -> None:
    """Swaps under load: failed or mixed answers, publish to first token, gaps between tokens.

    Exits with 1 if an answer failed, was cut off or mixed versions.
    """
    from deploy.bench.results import swap_table
    from deploy.bench.swap import measure_swaps

    figures = _run(
        "swap",
        lambda: measure_swaps(swaps=swaps, streams=streams, tokens=tokens),
        swap_table,
        as_json,
    )
    raise typer.Exit(_disturbed(figures))


@app.command("lora")
def lora(rounds: Rounds = 3, as_json: JsonLine = False) -> None:
    """Throughput over eight adapters against the base model's, Attune's code against vLLM's."""
    from deploy.bench.lora import measure_lora
    from deploy.bench.results import lora_table

    _run("lora", lambda: measure_lora(rounds=rounds), lora_table, as_json)


@app.command("overhead")
def overhead(rounds: Rounds = 20, as_json: JsonLine = False) -> None:
    """The gateway's cost: the same vLLM without and with Attune, recording durably."""
    from deploy.bench.overhead import measure_overhead
    from deploy.bench.results import overhead_table

    _run("overhead", lambda: measure_overhead(rounds=rounds), overhead_table, as_json)


@app.command("edge")
def edge(rounds: Rounds = 5, as_json: JsonLine = False) -> None:
    """Exports in both layouts at every precision: sizes, speeds beside transformers, equality."""
    from deploy.bench.edge import measure_edge
    from deploy.bench.edge_table import edge_table

    _run("edge", lambda: measure_edge(rounds=rounds), edge_table, as_json)


@app.command("adapters")
def adapters(
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of each point.")] = 20.0,
    streams: Streams = 16,
    resident: Annotated[int, typer.Option(min=1, help="ATTUNE_MAX_CPU_LORAS.")] = 2048,
    slots: Annotated[int, typer.Option(min=1, help="ATTUNE_MAX_LORAS.")] = 16,
    as_json: JsonLine = False,
) -> None:
    """Throughput over 5 to 2,000 registered adapters; exits with 1 if a request failed."""
    from deploy.bench.many import Places, measure_many
    from deploy.bench.tables_many import many_table

    places = Places(resident, slots)
    figures = _run(
        "adapters",
        lambda: measure_many(places=places, streams=streams, seconds=seconds),
        many_table,
        as_json,
    )
    raise typer.Exit(bool(figures["failed"]))


@app.command("soak")
def soak(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long.")] = 10.0,
    as_json: JsonLine = False,
) -> None:
    """Mixed traffic, swaps, evictions and training for minutes: memory growth, errors by kind.

    Exits with 1 if a process grew by more than 5 %, an error is unexplained or a run failed.
    """
    from deploy.bench.soak import measure_soak
    from deploy.bench.tables_many import soak_table

    figures = _run("soak", lambda: measure_soak(minutes=minutes), soak_table, as_json, write=True)
    raise typer.Exit(bool(figures["failed_because"]))


@app.command("all")
def run_all(
    only: Annotated[
        list[str] | None, typer.Option(help="Just this one; may be given several times.")
    ] = None,
) -> None:
    """All of them, one after the other, with results written to deploy/bench/results.

    Takes the better part of an hour. Exits with 1 if one of them would have.
    """
    known = _benchmarks()
    if unknown := sorted(set(only or ()) - set(known)):
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(known)}.")
    failed = False
    for name, (measure, table, trouble) in known.items():
        if not only or name in only:
            failed |= bool(trouble(_run(name, measure, table, write=True)))
    raise typer.Exit(failed)


def _benchmarks() -> dict[str, tuple[Measure, Show, Callable[[Mapping[str, Any]], object]]]:
    """By name: what measures, what shows the figures, and what in them is a failure."""
    from deploy.bench.edge import measure_edge
    from deploy.bench.edge_table import edge_table
    from deploy.bench.lora import measure_lora
    from deploy.bench.many import Places, measure_many
    from deploy.bench.overhead import measure_overhead
    from deploy.bench.results import lora_table, overhead_table, swap_table
    from deploy.bench.soak import measure_soak
    from deploy.bench.swap import measure_swaps
    from deploy.bench.tables_many import many_table, soak_table

    def many() -> dict[str, Any]:
        return measure_many(places=Places(2048, 16), streams=16, seconds=20.0)

    def nothing(figures: Mapping[str, Any]) -> bool:
        return False

    return {
        "swap": (lambda: measure_swaps(swaps=50, streams=16), swap_table, _disturbed),
        "overhead": (measure_overhead, overhead_table, nothing),
        "lora": (measure_lora, lora_table, nothing),
        "adapters": (many, many_table, lambda figures: figures["failed"]),
        "edge": (measure_edge, edge_table, nothing),
        "soak": (
            lambda: measure_soak(minutes=10.0),
            soak_table,
            lambda figures: figures["failed_because"],
        ),
    }


def _run(
    name: str,
    measure: Measure,
    table: Show,
    as_json: bool = False,
    *,
    write: bool = False,
) -> dict[str, Any]:
    from deploy.bench.results import rounded, surroundings, write_result

    began = surroundings()
    figures = measure()
    (Console(stderr=True) if as_json else console).print(table(figures))
    if as_json:
        print(json.dumps({"benchmark": name, **began, "figures": rounded(figures)}))
    if write:
        console.print(f"Figures: {write_result(name, began, figures)}")
    return figures


def _disturbed(figures: Mapping[str, Any]) -> bool:
    """Whether anybody's answer suffered: the exit status of the commands that swap."""
    return any(figures[kind] for kind in ("failed", "truncated", "mixed"))
