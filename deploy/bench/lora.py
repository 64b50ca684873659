"""What adapters cost: tokens per second over eight adapters against the base model alone, with
Attune's LoRA arithmetic and with vLLM's own, measured one after the other in the same run."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from rich.table import Table

from adapters.validate import read_base
from core.errors import Unavailable
from core.settings import Settings
from deploy.bench.adapters import write_adapter
from deploy.bench.results import figure_table
from deploy.bench.setting import Served, progress, serving
from deploy.bench.stream import whole

ADAPTERS = tuple(f"lora-{number}" for number in range(8))
BASE = ("base",)
RANK = 16
STOCK = {"ATTUNE_CPU_LORA": "off"}
STOCK_SAYS = "vLLM's own CPU code"  # in the log of a server started with STOCK


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in flight at once, and the tokens of each."""

    requests: int
    prompt_tokens: int
    max_tokens: int


LOADS = {
    "shipped": {"decode": Load(64, 16, 128), "prefill": Load(64, 384, 1)},
    # Thirty times the arithmetic per token, hence fewer of them; batches stay as large.
    "qwen2.5-0.5b-shape": {"decode": Load(64, 8, 16), "prefill": Load(8, 128, 1)},
}

LAYERS = 8  # of 24: all layers are alike
VOCABULARY = 8192  # of 151,936: the output layer is not what is measured


def measure(*, rounds: int = 3, models: Sequence[str] = tuple(LOADS)) -> dict[str, Any]:
    """Run the benchmark, for each model on two servers one after the other.

    Tokens per second and ratios by model. Each figure is the median of `rounds`, base alone and
    mixed taking turns. Raises Unavailable if a server or a request fails.
    """
    figures: dict[str, Any] = {"rounds": rounds, "adapters": len(ADAPTERS), "rank": RANK}
    figures["models"] = {}
    for model in models:
        with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
            path = Path(Settings().model)
            if model != "shipped":
                with progress.status(f"Writing a random model ({model}) …"):
                    path = _write_random_model(Path(folder) / "model", path)
            figures["models"][model] = _both(path, Path(folder), LOADS[model], rounds)
    return figures


def table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench lora` shows."""
    rows, after = [], ("mixed", "ratio")
    for model, of_model in figures["models"].items():
        for title, name in (("Attune's", "attune"), ("vLLM's own", "stock")):
            row = [model.replace("-", " "), title]  # a row may break at blanks
            for kind in ("decode", "prefill"):
                row += [
                    f"{of_model[name][f'{kind}_{who}_tokens_per_s']:,.0f}"
                    for who in ("base", "mixed")
                ]
                row.append(f"{of_model[name][f'{kind}_ratio']:.2f}")
            rows.append(row)
    return figure_table(
        f"Base alone or {figures['adapters']} adapters of rank {figures['rank']} mixed, tokens/s",
        ("model", "LoRA code", "decode base", *after, "prefill base", *after),
        rows,
        names=2,
    )


def _write_random_model(folder: Path, tokenizer_from: Path) -> Path:
    """Write a model with random weights and Qwen2.5-0.5B's layers, to measure arithmetic of that
    size: about 238 MB in fp16; the tokenizer is another model's.

    Matrices (out, in) are gaussian with variance 1/in, so that no activation runs away.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(  # Source: config.json of Qwen/Qwen2.5-0.5B.
        hidden_size=896,
        intermediate_size=4864,
        num_attention_heads=14,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        vocab_size=VOCABULARY,
        num_hidden_layers=LAYERS,
        max_position_embeddings=1024,
        eos_token_id=2,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(0.0, weight.shape[1] ** -0.5)
    model.half().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer_from / name, folder / name)
    return folder


def _both(model: Path, folder: Path, loads: Mapping[str, Load], rounds: int) -> dict[str, Any]:
    base = read_base(str(model))
    tokens = base.shapes["model.embed_tokens"][0]
    folders = [
        write_adapter(folder / name, base, seed=seed, rank=RANK, change=0.1)
        for seed, name in enumerate(ADAPTERS)
    ]
    figures: dict[str, Any] = {"loads": {kind: asdict(load) for kind, load in loads.items()}}
    for name, environment in (("attune", {"ATTUNE_CPU_LORA": "on"}), ("stock", STOCK)):
        with serving(
            f"the server ({name} LoRA)", {**environment, "ATTUNE_MODEL": str(model)}
        ) as served:
            stock = STOCK_SAYS in served.process.log.read_text(errors="replace")
            if stock != (name == "stock"):
                raise Unavailable(f"The server does not run the {name} LoRA code.")
            for adapter, source in zip(ADAPTERS, folders, strict=True):
                served.push(adapter, [source])
            with progress.status(f"Measuring ({name} LoRA) …"):
                figures[name] = asyncio.run(_measure(served, tokens, rounds, loads))
    return figures


async def _measure(
    served: Served, vocabulary: int, rounds: int, loads: Mapping[str, Load]
) -> dict[str, Any]:
    rng = random.Random(0)
    async with served.session(max(load.requests for load in loads.values())) as session:
        for models in (BASE, ADAPTERS):  # every adapter in its slot, every path walked once
            await _tokens_per_s(session, models, rng, vocabulary, Load(2 * len(ADAPTERS), 8, 4))
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for kind, load in loads.items():
                for who, models in (("base", BASE), ("mixed", ADAPTERS)):
                    rate = await _tokens_per_s(session, models, rng, vocabulary, load)
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
    session: aiohttp.ClientSession,
    models: tuple[str, ...],
    rng: random.Random,
    vocabulary: int,
    load: Load,
) -> float:
    """Send the load's requests at once, spread over `models`; tokens per second of wall time.

    Completion tokens count, or prompt tokens if only one token is asked for. Prompts are random
    token ids, never the same twice: the prefix cache has nothing to give.
    """
    bodies = [
        {
            "model": models[number % len(models)],
            "prompt": [rng.randrange(16, vocabulary) for _ in range(load.prompt_tokens)],
            "max_tokens": load.max_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
        }
        for number in range(load.requests)
    ]
    began = time.perf_counter()
    counts = await asyncio.gather(*(_count(session, body, load.max_tokens == 1) for body in bodies))
    return sum(counts) / (time.perf_counter() - began)


async def _count(session: aiohttp.ClientSession, body: dict[str, Any], of_prompt: bool) -> int:
    usage = json.loads(await whole(session, "/v1/completions", body))["usage"]
    return int(usage["prompt_tokens" if of_prompt else "completion_tokens"])
