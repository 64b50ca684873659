"""What the gateway costs: the same vLLM with and without Attune in front, side by side.

Both servers run at the same time and take turns, so that a drift of the machine falls on both;
the one that is not asked is idle.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from statistics import median
from typing import IO, Any

import aiohttp
from rich.table import Table

from core.errors import Unavailable
from deploy.bench.figures import Growth, gaps_ms, percentile, tokens_per_s
from deploy.bench.results import figure_table
from deploy.bench.setting import Served, progress, serving, serving_plain
from deploy.bench.stream import Answer, request_body, stream_into
from deploy.demo.world import ask

BOTH = ("plain", "attune")
CHUNKS = 128  # tokens, each its own chunk, of a streamed answer
SATURATED_TOKENS = 64
QUICK_TOKENS = 4
_BLOCK = 4096


Sides = Mapping[str, aiohttp.ClientSession]
"""A session with each of the two servers, by their names."""


class Disk:
    """What one durable write takes on the disk the servers write to: no commit can be quicker."""

    def __init__(self, file: IO[bytes]) -> None:
        self.flushes_ms: list[float] = []
        self._number = file.fileno()
        os.pwrite(self._number, bytes(_BLOCK), 0)  # later writes need no space of their own
        os.fsync(self._number)

    def flush(self) -> None:
        """Overwrite one block and wait until it is on the disk."""
        began = time.perf_counter()
        os.pwrite(self._number, os.urandom(_BLOCK), 0)
        os.fdatasync(self._number)
        self.flushes_ms.append(1e3 * (time.perf_counter() - began))


def measure(
    *, rounds: int = 20, requests: int = 64, quick: int = 1000, streams: int = 60
) -> dict[str, Any]:
    """Run the benchmark; ratios, milliseconds and microseconds by name.

    Saturation: `rounds` times `requests` at once. Low load: `quick` requests one at a time to
    each server, then `streams` streamed answers of 128 chunks. Raises Unavailable if one fails.
    """
    with ExitStack() as stack:
        plain = stack.enter_context(serving_plain())
        attune = stack.enter_context(serving("Attune"))
        both = {"plain": plain, "attune": attune}
        return asyncio.run(_measure(both, rounds, requests, quick, streams))


def table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench overhead` shows."""

    def both(name: str, form: str) -> list[str]:
        return [format(figures[f"{side}_{name}"], form) for side in BOTH]

    at_once = f"tokens/s, {figures['requests_at_once']} streams at once"
    chunks = [f"{each} ms" for each in both("chunk_ms", ".3f")]
    rows = [[at_once, *both("tokens_per_s", ",.0f"), f"ratio {figures['throughput_ratio']:.3f}"]]
    for q in ("p50", "p99"):
        latencies = [f"{each} ms" for each in both(f"latency_{q}_ms", ".2f")]
        cost = f"{figures[f'added_latency_{q}_ms']:+.2f} ms"
        rows.append([f"one request at a time, {q}", *latencies, cost])
    cost = f"{figures['added_per_chunk_us']:+.1f} µs"
    rows.append(["between two chunks of one stream, median", *chunks, cost])
    return figure_table(
        "The same vLLM without and with Attune in front, recording durably",
        ("", "plain vLLM", "Attune", "cost"),
        rows,
        f"Of a single request its commit takes {figures['commit_mean_ms']:.2f} ms (mean); writing "
        f"4 KB durably takes this disk {figures['disk_flush_p50_ms']:.2f} ms (p50).",
    )


async def _measure(
    servers: Mapping[str, Served], rounds: int, requests: int, quick: int, streams: int
) -> dict[str, Any]:
    rng = random.Random(0)
    async with AsyncExitStack() as stack:
        sides = {
            name: await stack.enter_async_context(server.streams(requests))
            for name, server in servers.items()
        }
        for session in sides.values():  # every path walked once before anything counts
            await _saturated(session, requests, rng)
            await _one(session, rng)
        with progress.status("Measuring single requests …"), tempfile.TemporaryFile() as file:
            disk, before = Disk(file), servers["attune"].metrics()
            latencies = await _latencies(sides, quick, rng, disk)
            grown = Growth(before, servers["attune"].metrics())
        with progress.status("Measuring streams …"):
            chunks = await _chunk_times(sides, streams, rng)
        with progress.status(f"Measuring {requests} at once …"):
            rates: dict[str, list[float]] = {name: [] for name in BOTH}
            for number in range(rounds):
                for name in _turn(number):
                    rates[name].append(await _saturated(sides[name], requests, rng))
    return {
        "rounds": rounds,
        "requests_at_once": requests,
        **throughput(rates),
        **added(latencies),
        "commit_mean_ms": grown.mean_ms("attune_commit_seconds"),
        "disk_flush_p50_ms": percentile(disk.flushes_ms, 50),
        **added_per_chunk(chunks),
    }


def throughput(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of both, and of the ratios of neighbouring rounds (attune / plain)."""
    ratios = [mine / plain for mine, plain in zip(rates["attune"], rates["plain"], strict=True)]
    return {
        **{f"{name}_tokens_per_s": median(rates[name]) for name in BOTH},
        "throughput_ratio": median(ratios),
        "throughput_ratios": ratios,
    }


def added(latencies_ms: dict[str, list[float]]) -> dict[str, Any]:
    """Latency of single requests in ms: percentiles of both and what Attune adds to each."""
    figures: dict[str, Any] = {"requests_each": len(latencies_ms["plain"])}
    for q in (50, 99):
        values = {name: percentile(latencies_ms[name], q) for name in BOTH}
        figures |= {f"{name}_latency_p{q}_ms": value for name, value in values.items()}
        figures[f"added_latency_p{q}_ms"] = values["attune"] - values["plain"]
    return figures


def added_per_chunk(gaps_ms: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Time between two chunks of one stream: medians of all in ms; of the streams' own medians,
    each beside that of its neighbour, the median difference in microseconds."""
    medians = {name: median(gap for stream in gaps_ms[name] for gap in stream) for name in BOTH}
    pairs = zip(gaps_ms["attune"], gaps_ms["plain"], strict=True)
    return {
        "chunks_each": sum(map(len, gaps_ms["plain"])),
        **{f"{name}_chunk_ms": value for name, value in medians.items()},
        "added_per_chunk_us": 1e3 * median(median(mine) - median(plain) for mine, plain in pairs),
    }


def _turn(number: int) -> Sequence[str]:
    """Who is first changes with every round: neither always follows the other."""
    return BOTH if number % 2 == 0 else BOTH[::-1]


async def _latencies(
    sides: Sides, count: int, rng: random.Random, disk: Disk
) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in BOTH}
    for number in range(count):
        for name in _turn(number):
            taken[name].append(await _one(sides[name], rng))
        disk.flush()
    return taken


async def _one(session: aiohttp.ClientSession, rng: random.Random) -> float:
    """Milliseconds for one short answer in one piece."""
    body = request_body("base", ask(rng, "train").text, QUICK_TOKENS) | {"stream": False}
    began = time.perf_counter()
    async with session.post("/v1/chat/completions", json=body) as response:
        text = await response.text()
    elapsed = 1e3 * (time.perf_counter() - began)
    if response.status != 200:
        raise Unavailable(f"{response.url} answered {response.status}: {text[:200]}")
    return elapsed


async def _chunk_times(
    sides: Sides, count: int, rng: random.Random
) -> dict[str, list[list[float]]]:
    """Gaps between neighbouring chunks, in ms, of one stream after the other."""
    taken: dict[str, list[list[float]]] = {name: [] for name in BOTH}
    for number in range(count):
        body = request_body("base", ask(rng, "train").text, CHUNKS)
        for name in _turn(number):
            taken[name].append(gaps_ms([await _streamed(sides[name], body)]))
    return taken


async def _saturated(session: aiohttp.ClientSession, requests: int, rng: random.Random) -> float:
    """Tokens per second of `requests` streams at once, from the first request to the last end."""
    bodies = [
        request_body("base", ask(rng, "train").text, SATURATED_TOKENS) for _ in range(requests)
    ]
    began = time.perf_counter()
    answers = await asyncio.gather(*(_streamed(session, body) for body in bodies))
    return tokens_per_s(answers, time.perf_counter() - began)


async def _streamed(session: aiohttp.ClientSession, body: dict[str, Any]) -> Answer:
    answer = Answer(0)
    await stream_into(answer, session, body)
    if answer.failure or not answer.closed:
        raise Unavailable(f"A request failed: {answer.failure or 'a stream broke off'}")
    return answer
