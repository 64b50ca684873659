"""What adapters cost: tokens per second over eight adapters against the base model alone, with
Attune's LoRA arithmetic and with vLLM's own, measured one after the other in the same run."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from adapters.validate import read_base
from core.errors import Unavailable
from core.settings import Settings
from deploy.bench.adapters import write_adapter
from deploy.bench.setting import Served, progress, serving

ADAPTERS = tuple(f"lora-{number}" for number in range(8))
BASE = ("base",)
RANK = 16
REQUESTS = 64
DECODE = {"prompt_tokens": 16, "max_tokens": 128}
PREFILL = {"prompt_tokens": 384, "max_tokens": 1}
STOCK = {"ATTUNE_CPU_LORA": "off"}
STOCK_SAYS = "vLLM's own CPU code"  # in the log of a server started with STOCK


def measure_lora(*, rounds: int = 3, requests: int = REQUESTS) -> dict[str, Any]:
    """Run the benchmark on two servers, one after the other; tokens per second and ratios.

    `requests` are in flight at once. Each figure is the median of `rounds`, base alone and
    mixed taking turns. Raises Unavailable if a server or a request fails.
    """
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
        base = read_base(Settings().model)
        tokens = base.shapes["model.embed_tokens"][0]
        folders = [
            write_adapter(Path(folder) / name, base, seed=seed, rank=RANK)
            for seed, name in enumerate(ADAPTERS)
        ]
        figures: dict[str, Any] = {"requests_at_once": requests, "rounds": rounds}
        figures |= {"adapters": len(ADAPTERS), "rank": RANK}
        for name, environment in (("attune", {"ATTUNE_CPU_LORA": "on"}), ("stock", STOCK)):
            with serving(f"the server ({name} LoRA)", environment) as served:
                stock = STOCK_SAYS in served.process.log.read_text(errors="replace")
                if stock != (name == "stock"):
                    raise Unavailable(f"The server does not run the {name} LoRA code.")
                for adapter, source in zip(ADAPTERS, folders, strict=True):
                    served.push(adapter, [source])
                with progress.status(f"Measuring ({name} LoRA) …"):
                    figures[name] = asyncio.run(_measure(served, tokens, rounds, requests))
    return figures


async def _measure(served: Served, vocabulary: int, rounds: int, requests: int) -> dict[str, Any]:
    rng = random.Random(0)
    async with served.client(requests) as client:
        for models in (BASE, ADAPTERS):  # every adapter in its slot, every path walked once
            await _tokens_per_s(client, models, requests, rng, vocabulary, prompt_tokens=16)
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for kind, shape in (("decode", DECODE), ("prefill", PREFILL)):
                for who, models in (("base", BASE), ("mixed", ADAPTERS)):
                    rate = await _tokens_per_s(client, models, requests, rng, vocabulary, **shape)
                    taken.setdefault(f"{kind}_{who}", []).append(rate)
    return summary(taken)


def summary(taken: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of each series, and of the ratios of neighbouring measurements (mixed / base)."""
    figures: dict[str, Any] = {f"{name}_tokens_per_s": median(v) for name, v in taken.items()}
    for kind in ("decode", "prefill"):
        pairs = zip(taken[f"{kind}_mixed"], taken[f"{kind}_base"], strict=True)
        figures[f"{kind}_ratio"] = median(mixed / base for mixed, base in pairs)
    figures["series_tokens_per_s"] = taken
    return figures


async def _tokens_per_s(
    client: httpx.AsyncClient,
    models: tuple[str, ...],
    requests: int,
    rng: random.Random,
    vocabulary: int,
    *,
    prompt_tokens: int,
    max_tokens: int = 8,
) -> float:
    """Send `requests` at once, spread over `models`; counted tokens per second of wall time.

    Completion tokens count, or prompt tokens if only one token is asked for. Prompts are random
    token ids, never the same twice: the prefix cache has nothing to give.
    """
    bodies = [
        {
            "model": models[number % len(models)],
            "prompt": [rng.randrange(16, vocabulary) for _ in range(prompt_tokens)],
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
        }
        for number in range(requests)
    ]
    began = time.perf_counter()
    counts = await asyncio.gather(*(_count(client, body, max_tokens == 1) for body in bodies))
    return sum(counts) / (time.perf_counter() - began)


async def _count(client: httpx.AsyncClient, body: dict[str, Any], of_prompt: bool) -> int:
    try:
        response = await client.post("/v1/completions", json=body)
    except httpx.HTTPError as error:
        raise Unavailable(f"A request of the benchmark failed: {error!r}") from error
    if response.status_code != 200:
        raise Unavailable(f"The server answered {response.status_code}: {response.text[:200]}")
    usage = response.json()["usage"]
    return int(usage["prompt_tokens" if of_prompt else "completion_tokens"])
