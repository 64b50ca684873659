"""Makes an uploaded adapter plain: its weights under the names every reader knows, nothing beside
them, and a configuration that follows from them.

What is stored names each module it changes, so neither the engine nor the trainer ever runs a
stranger's regular expression or meets a setting that one of them reads otherwise.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from adapters.artifacts.digest import ADAPTER_FILES
from adapters.intake.claims import Claims, read_claims
from adapters.intake.copies import require_base
from adapters.intake.matching import Keys
from adapters.intake.names import Copy, Lora, meaning
from adapters.lora_config import MOST_BYTES
from adapters.tensors import TensorEntry, read_header, write_tensors
from adapters.types import ArtifactInfo
from adapters.validate import BaseModel, is_embedding, validate_adapter
from core.errors import Invalid, NotFound

MOST_TENSORS = 20_000
MOST_HEADER_BYTES = 4_000_000
MOST_ALPHAS = 64
_CONFIG, _WEIGHTS = ADAPTER_FILES

Value = TypeVar("Value", int, float)


def make_plain(given: Path, out: Path, base: BaseModel, *, max_rank: int) -> ArtifactInfo:
    """Write what the folder `given` says to the empty folder `out`, and check it as the engine's
    door does. Raises Invalid or NotFound, naming the edit that mends it where there is one.

    It may take long: see `adapters.intake.process`.
    """
    for name in ADAPTER_FILES:
        if not (given / name).is_file():
            raise NotFound(f"{name} is missing.", param="file")
    with (given / _CONFIG).open("rb") as file:
        claims = read_claims(file.read(MOST_BYTES + 1))
    weights = given / _WEIGHTS
    entries = read_header(weights, most_bytes=MOST_HEADER_BYTES)
    if len(entries) > MOST_TENSORS:
        raise Invalid(f"The adapter has more than {MOST_TENSORS:,} tensors.", param="file")
    kept, copies = _sorted(entries)
    ranks = {
        lora.module: entry.shape[0] for lora, entry in kept.items() if _gives_rank(lora, entry)
    }
    if not ranks:
        raise Invalid("The adapter contains no LoRA weights.", param="file")
    config = _config(claims, ranks)
    for module, entry in copies.items():
        require_base(weights, module, entry, base)
    (out / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_tensors(weights, {lora.tensor: entry for lora, entry in kept.items()}, out / _WEIGHTS)
    return validate_adapter(out, base, max_rank=max_rank)


def _sorted(
    entries: Mapping[str, TensorEntry],
) -> tuple[dict[Lora, TensorEntry], dict[str, TensorEntry]]:
    kept: dict[Lora, TensorEntry] = {}
    copies: dict[str, TensorEntry] = {}
    for name, entry in entries.items():
        found = meaning(name)
        if found in kept or (isinstance(found, Copy) and found.module in copies):
            raise Invalid(f"Tensor '{name[:200]}' is given twice, under two names.", param="file")
        if isinstance(found, Copy):
            copies[found.module] = entry
        else:
            kept[found] = entry
    return kept, copies


def _gives_rank(lora: Lora, entry: TensorEntry) -> bool:
    return lora.part.endswith("_A") and len(entry.shape) == 2


def _config(claims: Claims, ranks: Mapping[str, int]) -> dict[str, Any]:
    modules = list(ranks)
    said = Keys("rank_pattern", claims.ranks).of(modules, claims.rank)
    alphas = Keys("alpha_pattern", claims.alphas).of(modules, claims.alpha)
    for module, rank in ranks.items():
        if rank != said[module]:
            raise Invalid(
                f"Module '{module[:200]}' has rank {_shown(rank)} but adapter_config.json says "
                f"{_shown(said[module])}: set r or rank_pattern to what it was trained with.",
                param="file",
            )
    if len(set(alphas.values())) > MOST_ALPHAS:
        raise Invalid(
            f"alpha_pattern gives more than {MOST_ALPHAS} different values.", param="alpha_pattern"
        )
    if claims.ties and any(is_embedding(module) for module in modules):
        raise Invalid(
            "adapter_config.json sets ensure_weight_tying, which the engine cannot serve for "
            "embeddings: train with ensure_weight_tying=False.",
            param="config",
        )
    rank, rank_pattern = _by_value(ranks)
    alpha, alpha_pattern = _by_value(alphas)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "bias": "none",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": rank_pattern,
        "alpha_pattern": alpha_pattern,
        "use_rslora": claims.rslora,
        "target_modules": sorted(modules),
    }


def _by_value(values: Mapping[str, Value]) -> tuple[Value, dict[str, Value]]:
    """The commonest value, and one key for each other with all its modules.

    The engine looks through the keys for every module while nobody is answered: few are quick.
    """
    commonest = Counter(values.values()).most_common(1)[0][0]
    modules: dict[Value, list[str]] = {}
    for module, value in sorted(values.items()):
        if value != commonest:
            modules.setdefault(value, []).append(module)
    return commonest, {"|".join(names): value for value, names in modules.items()}


def _shown(rank: int) -> str:
    return str(rank) if rank < 10**6 else "over a million"
