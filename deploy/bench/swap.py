"""What a swap costs those who are being answered, and how soon it reaches them.

Two versions of one adapter take turns while clients stream greedy answers without pause. Every
answer is afterwards held, token by token, against what its version says alone.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.table import Table

from adapters.registry import Registry
from adapters.types import Adapter
from adapters.validate import read_base
from core.errors import Conflict
from core.identity.tenants import TenantStore
from core.settings import Settings
from deploy.bench.adapters import write_adapter
from deploy.bench.crowd import Crowd, Request
from deploy.bench.figures import (
    Growth,
    first_tokens_ms,
    gaps_ms,
    longest_gaps_ms,
    spread,
    tokens_per_s,
)
from deploy.bench.results import figure_table
from deploy.bench.setting import TENANT, Served, progress, serving
from deploy.bench.stream import Answer, judge, request_body, streamed
from deploy.demo.world.questions import ask

ADAPTER = "swapped"
PROMPTS = 8
TOKENS = 24  # the shipped model's own greedy answers: 23 tokens on average


@dataclass(frozen=True, slots=True)
class Phase:
    """What the clients received in one stretch of time, and the swaps in it.

    A swap is when it was committed and when a first token showed it (perf_counter seconds).
    """

    answers: list[Answer]
    elapsed_s: float
    swaps: list[tuple[float, float]]


def answer_lengths(mean: int) -> list[int]:
    """Tokens of the answer to each prompt, from 5/12 to 19/12 of the mean.

    Of one length they would all begin, and could all meet a new version, at the same moments.
    """
    return [max(1, round(mean * (5 + 2 * number) / 12)) for number in range(PROMPTS)]


def measure(
    *, swaps: int = 50, streams: int = 16, tokens: int = TOKENS, quiet_s: float | None = None
) -> dict[str, Any]:
    """Run the benchmark on a server of its own; figures by name, times in ms.

    Answers have `tokens` tokens on average. Without swaps it streams for `quiet_s` in all, half
    before and half after the swaps (by default a second for each swap, at least 10 s). Raises
    Unavailable if the server fails.
    """
    quiet_s = max(10.0, float(swaps)) if quiet_s is None else quiet_s
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder, serving("Attune") as served:
        base = read_base(Settings().model)
        versions = [
            write_adapter(Path(folder) / str(seed), base, seed=seed, rank=8) for seed in (1, 2)
        ]
        served.push(ADAPTER, versions)
        return asyncio.run(_measure(served, swaps, streams, answer_lengths(tokens), quiet_s))


def table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench swap` shows."""
    titles = {
        "publish_to_first_token_ms": "publish → first new token, ms",
        "first_token_without_swaps_ms": "request → first token without swaps, ms",
        "first_token_with_swaps_ms": "request → first token with swaps, ms",
        "gap_without_swaps_ms": "gap between tokens without swaps, ms",
        "gap_with_swaps_ms": "gap between tokens with swaps, ms",
        "longest_gap_around_a_swap_ms": "longest gap around each swap, ms",
    }
    columns = ("p50", "p99", "max")
    return figure_table(
        f"{figures['swaps']} swaps under {figures['streams']} streams",
        ("", *columns),
        (
            [title, *(f"{figures[name][column]:.1f}" for column in columns)]
            for name, title in titles.items()
        ),
        f"{figures['answers']} answers: {figures['failed']} failed, {figures['truncated']} "
        f"truncated, {figures['mixed']} mixed. {figures['engine_loads']} loads into the engine, "
        f"{figures['engine_load_mean_ms']:.1f} ms each.",
    )


async def _measure(
    served: Served, swaps: int, streams: int, lengths: list[int], quiet_s: float
) -> dict[str, Any]:
    rng = random.Random(0)
    questions = [ask(rng, "held_out").text for _ in lengths]
    bodies = [request_body(ADAPTER, *asked) for asked in zip(questions, lengths, strict=True)]
    async with served.session(streams) as session:
        own = await _own_answers(session, questions, lengths)

        def in_turn(client: int, turn: int) -> Request:
            prompt = (client + turn) % len(bodies)
            return prompt, bodies[prompt]

        def crowd() -> Crowd:
            return Crowd(session, in_turn, streams=streams)

        with progress.status(f"{streams} clients stream; no swaps …") as status:
            # The first swap comes while both versions are in the engine: it is not counted.
            await _swapping(crowd(), served, 1, rng)
            before = await _quiet(crowd(), quiet_s / 2)
            status.update(f"{streams} clients stream; {swaps} swaps …")
            counted = served.metrics()
            busy = await _swapping(crowd(), served, swaps, rng)
            grown = Growth(counted, served.metrics())
            status.update(f"{streams} clients stream; no swaps …")
            after = await _quiet(crowd(), quiet_s / 2)
    return {
        **_figures(own, lengths, before, busy, after),
        "engine_loads": grown.loads(),
        "engine_load_mean_ms": grown.mean_ms("attune_adapter_load_seconds"),
        "server_swap_mean_ms": grown.mean_ms("attune_swap_seconds"),
        "streams": streams,
    }


async def _own_answers(
    session: aiohttp.ClientSession, questions: list[str], lengths: list[int]
) -> dict[tuple[str, int], list[int]]:
    """Each version's greedy tokens for each prompt, asked one at a time of the pinned version."""
    own: dict[tuple[str, int], list[int]] = {}
    for number in (1, 2):
        for prompt, question in enumerate(questions):
            body = request_body(f"{ADAPTER}@{number}", question, lengths[prompt])
            own[f"{ADAPTER}@{number}", prompt] = (await streamed(session, body, prompt)).tokens
    for prompt in range(len(questions)):
        if own[f"{ADAPTER}@1", prompt] == own[f"{ADAPTER}@2", prompt]:
            raise Conflict(
                "The two versions answer alike, so that mixed answers could not be seen; write "
                "them with a greater `change`."
            )
    return own


async def _quiet(crowd: Crowd, seconds: float) -> Phase:
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    answers = await crowd.stop()
    return Phase(answers, time.perf_counter() - began, [])


async def _swapping(crowd: Crowd, served: Served, count: int, rng: random.Random) -> Phase:
    """Move the live pointer straight in the database, as another process would."""
    database = served.process.database()
    registry = Registry(database)
    interval_s = Settings().sync_interval_s
    swaps: list[tuple[float, float]] = []
    began = time.perf_counter()
    try:
        adapter = registry.get(TenantStore(database).by_name(TENANT).id, ADAPTER)
        await asyncio.sleep(1.0)
        for _ in range(count):
            # The old version must have left the engine, or the swap would load nothing; and the
            # moment must be no particular one of the server's looks at the registry.
            await crowd.until_renewed()
            await asyncio.sleep(rng.uniform(0.2, 0.2 + interval_s))
            number = 3 - (adapter.live_version or 2)
            first = asyncio.create_task(crowd.first_token_of(f"{ADAPTER}@{number}"))
            adapter, committed_s = await asyncio.to_thread(_activate, registry, adapter, number)
            swaps.append((committed_s, await first))
        await crowd.until_renewed()
    finally:
        answers = await crowd.stop()
        database.dispose()
    return Phase(answers, time.perf_counter() - began, swaps)


def _activate(registry: Registry, adapter: Adapter, number: int) -> tuple[Adapter, float]:
    adapter = registry.activate(adapter, number, actor="bench", reason="benchmark")
    return adapter, time.perf_counter()


def _figures(
    own: Mapping[tuple[str, int], list[int]],
    lengths: list[int],
    before: Phase,
    busy: Phase,
    after: Phase,
) -> dict[str, Any]:
    quiet = [*before.answers, *after.answers]
    quiet_gaps, busy_gaps = gaps_ms(quiet), gaps_ms(busy.answers)
    waits = [1e3 * (first_token_s - committed_s) for committed_s, first_token_s in busy.swaps]
    stalls = longest_gaps_ms(busy.answers, busy.swaps)
    arrivals = sum(len(answer.arrivals_s) for answer in busy.answers)
    failures = sorted({answer.failure for answer in (*quiet, *busy.answers) if answer.failure})
    return {
        "swaps": len(busy.swaps),
        **asdict(judge(busy.answers, own, lengths=lengths)),
        "quiet": asdict(judge(quiet, own, lengths=lengths)),
        "failures": failures[:5],
        "publish_to_first_token_ms": spread(waits),
        "first_token_without_swaps_ms": spread(first_tokens_ms(quiet)),
        "first_token_with_swaps_ms": spread(first_tokens_ms(busy.answers)),
        "gap_without_swaps_ms": spread(quiet_gaps),
        "gap_with_swaps_ms": spread(busy_gaps),
        "longest_gap_around_a_swap_ms": spread(stalls),
        "tokens_per_s_without_swaps": tokens_per_s(quiet, before.elapsed_s + after.elapsed_s),
        "tokens_per_s_with_swaps": tokens_per_s(busy.answers, busy.elapsed_s),
        "tokens_per_arrival": sum(len(a.tokens) for a in busy.answers) / max(1, arrivals),
        "tokens_per_answer": sum(lengths) / len(lengths),
    }
