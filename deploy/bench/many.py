"""What thousands of registered adapters cost: the same clients on one server, drawing from more
and more of them."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from rich.table import Table

from adapters.artifacts.store import ArtifactStore
from adapters.registry import Registry
from adapters.types import Learning
from adapters.validate import read_base, validate_adapter
from core.errors import NotFound, Unavailable
from core.identity.tenants import TenantStore
from core.settings import Settings
from deploy.bench.adapters import write_adapter
from deploy.bench.crowd import Crowd, Request
from deploy.bench.figures import Growth, first_tokens_ms, percentile
from deploy.bench.results import figure_table, processor_s, resident_bytes
from deploy.bench.setting import TENANT, Served, progress, serving
from deploy.bench.stream import Answer, request_body
from deploy.demo.world.questions import ask

Draw = Literal["zipf", "uniform"]

COUNTS = (5, 100, 1000, 2000)
DRAWS: tuple[Draw, ...] = ("zipf", "uniform")
NAME = "many-{}"  # the adapter registered as the so many-th, from 0
RANK = 8
TOKENS = 32
_COLUMNS = {
    "req/s": ("requests_per_s", ".1f"),
    "share": ("share", ".2f"),
    "CPU ms": ("processor_ms_per_request", ".1f"),
    "p99 ms": ("latency_p99_ms", ".0f"),
    "first token p99": ("first_token_p99_ms", ".0f"),
    "loads": ("loads", "d"),
    "failed": ("failed", "d"),
}
REASONS = ("load", "room", "slot")


def measure(
    *,
    resident: int = 2048,
    slots: int = 16,
    streams: int = 16,
    seconds: float = 20.0,
    counts: Sequence[int] = COUNTS,
) -> dict[str, Any]:
    """Run the benchmark; a list of points, each with its share of the first count's throughput.

    The server runs with ATTUNE_MAX_CPU_LORAS=`resident` and ATTUNE_MAX_LORAS=`slots`.

    The first count is measured again at the end, and the shares are of the mean of both, so that
    a slow drift of the machine falls on both sides. Raises Unavailable if the server fails.
    """
    points: list[dict[str, Any]] = []
    places = {"ATTUNE_MAX_CPU_LORAS": str(resident), "ATTUNE_MAX_LORAS": str(slots)}
    # Adapters that have been registered are taken over without a pause.
    with serving("Attune", places | {"ATTUNE_PUBLISH_INTERVAL_S": "0"}) as served:
        memory = {"memory_before_bytes": sum(resident_bytes(served.process.pid).values())}
        registered = 0
        for count in (*counts, counts[0]):
            if count > registered:
                _register(served, registered, count)
                registered = count
            for draw in DRAWS:
                with progress.status(f"{streams} clients, {count} adapters, {draw} …"):
                    points.append(asyncio.run(_measure(served, count, draw, streams, seconds)))
        memory["memory_after_bytes"] = sum(resident_bytes(served.process.pid).values())
    return {
        "streams": streams,
        "seconds": seconds,
        "rank": RANK,
        "tokens": TOKENS,
        "places": {"resident": resident, "slots": slots},
        **memory,
        "points": shares(points, counts[0]),
        "failed": sum(point["failed"] for point in points),
    }


def table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench adapters` shows."""
    places, points = figures["places"], figures["points"]
    before_mib, after_mib = (figures[f"memory_{at}_bytes"] / 2**20 for at in ("before", "after"))
    shown = figure_table(
        f"{figures['streams']} clients over registered adapters of rank {figures['rank']}; "
        f"{places['resident']} resident (ATTUNE_MAX_CPU_LORAS), {places['slots']} in one step "
        "(ATTUNE_MAX_LORAS)",
        ("adapters, draw", *_COLUMNS),
        (
            [f"{point['adapters']:,} {point['draw']}"]
            + [format(point[name], form) for name, form in _COLUMNS.values()]
            for point in points
        ),
        f"{figures['seconds']:.0f} s each, answers of {figures['tokens']} tokens. In all "
        f"{sum(point['evictions'] for point in points)} evictions; waited for loads "
        f"{sum(point['waited_for_load_s'] for point in points):.1f} s, for slots "
        f"{sum(point['waited_for_slot_s'] for point in points):.1f} s. Memory of all "
        f"processes: {before_mib:,.0f} MiB without adapters, {after_mib:,.0f} MiB at the end.",
    )
    shown.columns[0].no_wrap = True
    return shown


def shares(points: Sequence[Mapping[str, Any]], first: int) -> list[dict[str, Any]]:
    """The points with `share`: of the mean throughput over the first count, by the same draw."""
    whole = {
        draw: mean(
            point["requests_per_s"]
            for point in points
            if point["adapters"] == first and point["draw"] == draw
        )
        for draw in DRAWS
    }
    return [
        {**point, "share": point["requests_per_s"] / (whole[point["draw"]] or 1.0)}
        for point in points
    ]


def weights(count: int, draw: Draw) -> list[float]:
    """Cumulative weights of adapters 0 to count - 1: Zipf's with s = 1, or all alike."""
    return list(accumulate(1.0 / rank if draw == "zipf" else 1.0 for rank in range(1, count + 1)))


def _register(served: Served, first: int, count: int) -> None:
    """Adapters `first` to `count` - 1, each with one live version, written straight to the
    server's stores as another server does it, every one validated; returns when it has them."""
    base = read_base(Settings().model)
    database = served.process.database()
    registry = Registry(database)
    artifacts = ArtifactStore(str(served.process.home / "artifacts"))
    tenant = TenantStore(database).by_name(TENANT).id
    with progress.status("Registering …") as status, tempfile.TemporaryDirectory() as folder:
        for number in range(first, count):
            source = write_adapter(Path(folder) / str(number), base, seed=number, rank=RANK)
            info = validate_adapter(source, base, max_rank=Settings().max_lora_rank)
            artifacts.put_folder(source)
            learning = Learning(enabled=False, exploration=0.0)
            adapter = registry.create(tenant, NAME.format(number), learning=learning)
            version = registry.add_version(adapter.id, info, source="upload")
            registry.activate(adapter, version.number, actor="bench", reason="benchmark")
            if number % 50 == 0:
                status.update(f"Registering {number + 1} of {count} …")
        status.update(f"{count} adapters are taken over …")
        _until_known(served, NAME.format(count - 1))
    database.dispose()


def _until_known(served: Served, name: str, timeout_s: float = 300.0) -> None:
    api, deadline = served.api, time.monotonic() + timeout_s
    while True:
        with suppress(NotFound):
            api.get(f"/v1/models/{name}")
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"The server does not know {name} after {timeout_s:.0f} s.")
        time.sleep(0.1)


async def _measure(
    served: Served, count: int, draw: Draw, streams: int, seconds: float
) -> dict[str, Any]:
    """One point: a quarter of the time to warm up, then `seconds` that count."""
    async with served.session(streams) as session:
        chances = [random.Random(client) for client in range(streams)]
        weighed = weights(count, draw)

        def drawn(client: int, _: int) -> Request:
            (number,) = chances[client].choices(range(count), cum_weights=weighed)
            question = ask(chances[client], "held_out").text
            return number, request_body(NAME.format(number), question, TOKENS)

        crowd = Crowd(session, drawn, streams=streams)
        await asyncio.sleep(seconds / 4)
        before, began = await asyncio.to_thread(served.metrics), time.perf_counter()
        used_s = processor_s(served.process.pid)
        await asyncio.sleep(seconds)
        used_s = processor_s(served.process.pid) - used_s
        ended, after = time.perf_counter(), await asyncio.to_thread(served.metrics)
        answers = await crowd.stop()
    inside = [answer for answer in answers if began <= answer.ended_s <= ended]
    wrong = [failure for answer in inside if (failure := _fault(answer))]
    latencies = [1e3 * (answer.ended_s - answer.began_s) for answer in inside]
    return {
        "adapters": count,
        "draw": draw,
        "requests": len(inside),
        "failed": len(wrong),
        "failures": sorted(set(wrong))[:3],
        "distinct_adapters": len({answer.prompt for answer in inside}),
        "requests_per_s": (len(inside) - len(wrong)) / (ended - began),
        "processor_ms_per_request": 1e3 * used_s / max(1, len(inside)),
        "latency_p50_ms": percentile(latencies, 50),
        "latency_p99_ms": percentile(latencies, 99),
        "first_token_p99_ms": percentile(first_tokens_ms(inside), 99),
        **counted(Growth(before, after)),
    }


def counted(grown: Growth) -> dict[str, Any]:
    """What the server counted meanwhile: loads with their mean time, evictions, waits."""
    waited = "attune_request_wait_seconds_sum"
    return {
        "loads": grown.loads(),
        "load_mean_ms": grown.mean_ms("attune_adapter_load_seconds"),
        "evictions": int(grown.of("attune_adapter_evictions_total")),
        **{f"waited_for_{why}_s": grown.of(f'{waited}{{reason="{why}"}}') for why in REASONS},
    }


def _fault(answer: Answer) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if answer.failure:
        return answer.failure
    if not answer.whole(TOKENS):
        return "cut off"
    if answer.models != {f"{NAME.format(answer.prompt)}@1"}:
        return f"answered by {sorted(answer.models)}"
    return ""
