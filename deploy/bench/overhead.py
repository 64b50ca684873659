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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack
from statistics import median
from typing import IO, Any, TypeVar

import aiohttp
import httpx
from rich.table import Table

from core.errors import Conflict
from deploy.bench.figures import Growth, gaps_ms, percentile, tokens_per_s
from deploy.bench.results import figure_table
from deploy.bench.setting import Served, progress, serving
from deploy.bench.stream import request_body, streamed, whole
from deploy.demo.world.questions import ask

BOTH = ("plain", "attune")
PLAIN = ("-m", "deploy.bench.plain")  # the flags `attune serve` gives vLLM, nothing in front
CHUNKS = 128  # tokens, each its own chunk, of a streamed answer
SATURATED_TOKENS = 64
QUICK_TOKENS = 4
_BLOCK = 4096

Asked = TypeVar("Asked")
Found = TypeVar("Found")

Sides = Mapping[str, aiohttp.ClientSession]
"""A session with each of the two servers, by their names."""


def measure(
    *, rounds: int = 20, requests: int = 64, quick: int = 1000, streams: int = 60
) -> dict[str, Any]:
    """Run the benchmark; ratios, milliseconds and microseconds by name.

    Saturation: `rounds` times `requests` at once. Low load: `quick` requests one at a time to
    each server, then `streams` streamed answers of 128 chunks. Raises Unavailable if one fails.
    """
    with ExitStack() as stack:
        plain = stack.enter_context(serving("plain vLLM", command=PLAIN))
        attune = stack.enter_context(serving("Attune"))
        if httpx.get(f"{plain.process.url}/v1/adapters").status_code != 404:
            raise Conflict("The plain server has Attune in front; there is nothing to compare.")
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
            name: await stack.enter_async_context(server.session(requests))
            for name, server in servers.items()
        }
        for session in sides.values():  # every path walked once before anything counts
            await _saturated(session, _bodies(rng, requests, SATURATED_TOKENS))
            await _latency_ms(session, *_bodies(rng, 1, QUICK_TOKENS))
        with progress.status("Measuring single requests …"), tempfile.TemporaryFile() as file:
            flushes_ms, before = [_flush_ms(file)], servers["attune"].metrics()
            bodies = _bodies(rng, quick, QUICK_TOKENS)
            latencies = await _in_turns(
                sides, bodies, _latency_ms, lambda: flushes_ms.append(_flush_ms(file))
            )
            grown = Growth(before, servers["attune"].metrics())
        with progress.status("Measuring streams …"):
            chunks = await _in_turns(sides, _bodies(rng, streams, CHUNKS), _chunk_gaps_ms)
        with progress.status(f"Measuring {requests} at once …"):
            groups = (_bodies(rng, requests, SATURATED_TOKENS) for _ in range(rounds))
            rates = await _in_turns(sides, groups, _saturated)
    return {
        "rounds": rounds,
        "requests_at_once": requests,
        **throughput(rates),
        **added(latencies),
        "commit_mean_ms": grown.mean_ms("attune_commit_seconds"),
        "disk_flush_p50_ms": percentile(flushes_ms[1:], 50),
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


def _flush_ms(file: IO[bytes]) -> float:
    """What one durable write takes on the disk the servers write to: no commit can be quicker.

    It overwrites one block; only the first call takes space.
    """
    block, began = os.urandom(_BLOCK), time.perf_counter()
    os.pwrite(file.fileno(), block, 0)
    os.fdatasync(file.fileno())
    return 1e3 * (time.perf_counter() - began)


async def _in_turns(
    sides: Sides,
    requests: Iterable[Asked],
    once: Callable[[aiohttp.ClientSession, Asked], Awaitable[Found]],
    afterwards: Callable[[], None] = lambda: None,
) -> dict[str, list[Found]]:
    """What `once` finds for each request on either side, and `afterwards` after both.

    Who is first changes with every request: neither side always follows the other.
    """
    found: dict[str, list[Found]] = {name: [] for name in BOTH}
    for number, request in enumerate(requests):
        for name in BOTH if number % 2 == 0 else BOTH[::-1]:
            found[name].append(await once(sides[name], request))
        afterwards()
    return found


def _bodies(rng: random.Random, count: int, tokens: int) -> list[dict[str, Any]]:
    return [request_body("base", ask(rng, "train").text, tokens) for _ in range(count)]


async def _latency_ms(session: aiohttp.ClientSession, body: dict[str, Any]) -> float:
    """Milliseconds for one short answer in one piece."""
    began = time.perf_counter()
    await whole(session, "/v1/chat/completions", body | {"stream": False})
    return 1e3 * (time.perf_counter() - began)


async def _chunk_gaps_ms(session: aiohttp.ClientSession, body: dict[str, Any]) -> list[float]:
    """Gaps between neighbouring chunks of one stream."""
    return gaps_ms([await streamed(session, body)])


async def _saturated(session: aiohttp.ClientSession, bodies: list[dict[str, Any]]) -> float:
    """Tokens per second of streams at once, from the first request to the last end."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(streamed(session, body) for body in bodies))
    return tokens_per_s(answers, time.perf_counter() - began)
