"""The only door to the engine: whether an adapter folder may be loaded, decided by reading it.

Pure but for reading the files named. Everything vLLM 0.32 refuses (or would die of inside a
step) is refused here first, with words that say what to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.artifacts.digest import ADAPTER_FILES, adapter_digest
from adapters.lora_config import (
    ALPHAS,
    RANKS,
    is_alpha,
    is_rank,
    parse_config,
    require_plain_init,
    require_size,
)
from adapters.patterns import Pattern, is_plain
from adapters.tensors import TensorEntry, read_header, require_finite
from adapters.types import ArtifactInfo
from core.errors import Invalid
from core.ids import Digest

# The two spellings vLLM 0.32 reads (lora/utils.py, parse_fine_tuned_lora_name), no other.
_WEIGHT = re.compile(
    r"base_model\.model\.(?P<module>.+)\."
    r"(?:(?P<part>lora_A|lora_B)\.weight|(?P<embedding>lora_embedding_A|lora_embedding_B))"
)
_REFUSED_FEATURES = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "alora_invocation_tokens",
    "use_bdlora",
    "use_qalora",
    "trainable_token_indices",
    "target_parameters",
    # Regular expressions to PEFT, which the trainer loads adapters with.
    "exclude_modules",
    "layers_pattern",
    "megatron_config",  # PEFT would import Megatron
)
# What vLLM reads as embeddings: their update is spelt, and laid out, in its own way.
_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings")
_HEAD = "lm_head"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What an adapter is checked against: module name -> weight shape (out, in), and a name.

    `digest` tells it from all others, also those of its shape; see `adapters.bases`.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    digest: Digest | None = None


def validate_adapter(folder: Path, base: BaseModel, *, max_rank: int) -> ArtifactInfo:
    """Check the two adapter files against the base model and the server's limits.

    Raises Invalid (pickle or damaged weights, a feature vLLM lacks, a wrong base, shapes or
    dtypes, rank over `max_rank`, NaN or infinity) or NotFound (a file is missing).
    """
    digest = adapter_digest(folder)
    config = parse_config((folder / "adapter_config.json").read_bytes())
    _check_config(config)
    entries = read_header(folder / "adapter_model.safetensors")
    ranks = _check_weights(entries, config, base)
    rank = max(ranks.values())
    # vLLM holds every rank the config names against its limit, whether a module has it or not.
    named = max(rank, config["r"], *(config.get("rank_pattern") or {}).values())
    if named > max_rank:
        shown = named if named < 10**6 else "over a million"
        raise Invalid(
            f"The adapter has rank {shown}; this server accepts at most {max_rank}. Train with a "
            f"lower rank or start the server with a higher ATTUNE_MAX_LORA_RANK.",
            param="rank",
        )
    require_finite(folder / "adapter_model.safetensors", entries)
    return ArtifactInfo(
        digest=digest,
        size_bytes=sum((folder / name).stat().st_size for name in ADAPTER_FILES),
        rank=rank,
        target_modules=tuple(sorted({module.rsplit(".", 1)[-1] for module in ranks})),
        base_digest=base.digest,
    )


def read_base(path: str) -> BaseModel:
    """Module shapes of a base model from its safetensors headers; loads no weights.

    `path` is as `model_folder` takes it. Raises Invalid if there are no safetensors.
    """
    folder = model_folder(path)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise Invalid(f"The base model in {folder} has no .safetensors weights.", param="model")
    shapes = {
        name.removesuffix(".weight"): entry.shape
        for file in files
        for name, entry in read_header(file).items()
        if name.endswith(".weight") and len(entry.shape) == 2
    }
    return BaseModel(path, shapes)


def model_folder(path: str) -> Path:
    """The folder of a model: a folder, or a Hugging Face id already in the local cache.

    Raises Invalid for anything else.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder.resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError) as error:
        raise Invalid(
            f"The base model {path!r} is neither a folder nor in the local Hugging Face cache.",
            param="model",
        ) from error


def _check_config(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise Invalid(
            f"peft_type is {str(config.get('peft_type'))[:40]!r}; only LORA can be served.",
            param="config",
        )
    for feature in _REFUSED_FEATURES:
        if config.get(feature):
            raise Invalid(
                f"adapter_config.json sets {feature}, which the engine cannot serve; train a "
                "plain LoRA without it.",
                param="config",
            )
    if config.get("bias", "none") != "none":
        raise Invalid('bias must be "none" to be served.', param="config")
    require_plain_init(config)
    require_size(config)
    _check_pattern(config, "rank_pattern", is_rank, RANKS)
    _check_pattern(config, "alpha_pattern", is_alpha, ALPHAS)
    targets = config.get("target_modules")
    # A string is a regular expression to PEFT: from strangers it may run for ever.
    names = [] if targets == "all-linear" else targets
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Invalid(
            'target_modules must be a list of module names or "all-linear".',
            param="target_modules",
        )


def _check_pattern(
    config: Mapping[str, Any], field: str, fits: Callable[[Any], bool], what: str
) -> None:
    pattern = config.get(field)
    if pattern is None:
        return
    if not isinstance(pattern, dict) or not all(map(is_plain, pattern)):
        raise Invalid(f"{field}: use plain module names as keys.", param=field)
    if not all(fits(value) for value in pattern.values()):
        raise Invalid(f"{field}: every value must be {what}.", param=field)


def _check_weights(
    entries: Mapping[str, TensorEntry], config: Mapping[str, Any], base: BaseModel
) -> dict[str, int]:
    """Rank of every adapted module; Invalid if a tensor is strange, unpaired or misshapen."""
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, entry in entries.items():
        match = _WEIGHT.fullmatch(name)
        if match is None:
            raise Invalid(f"Unexpected tensor '{name[:200]}' in the adapter.", param="file")
        part = str(match.group("part") or match.group("embedding"))
        parts.setdefault(match.group("module"), {})[part] = entry.shape
    if not parts:
        raise Invalid("The adapter contains no LoRA weights.", param="file")
    own = Pattern(config.get("rank_pattern"))
    return {
        module: _check_module(module, found, own.of(module, config["r"]), base)
        for module, found in parts.items()
    }


def _check_module(
    module: str,
    found: Mapping[str, tuple[int, ...]],
    expected_rank: int,
    base: BaseModel,
) -> int:
    shown = module[:200]
    embedding = "lora_embedding_A" in found
    a = found.get("lora_embedding_A" if embedding else "lora_A")
    b = found.get("lora_embedding_B" if embedding else "lora_B")
    if a is None or b is None or len(a) != 2 or len(b) != 2 or len(found) != 2:
        raise Invalid(f"Module '{shown}' needs one matrix A and one matrix B.", param="file")
    rank = a[0]
    if rank < 1 or b[1] != rank:
        raise Invalid(
            f"Module '{shown}': A has shape {a} and B {b}; their ranks do not agree.",
            param="file",
        )
    if rank != expected_rank:
        raise Invalid(
            f"Module '{shown}' has rank {rank} but adapter_config.json says {expected_rank}.",
            param="file",
        )
    own = weight_of(base, module)
    if own is None:
        raise Invalid(
            f"The adapter changes '{shown}', which this server's base model ({base.name}) does "
            "not have: it was trained on another base.",
            param="base_model_name_or_path",
        )
    if embedding != is_embedding(module):
        # vLLM would lay one out as the other, and die of it in the middle of a step.
        raise Invalid(
            f"Module '{shown}' needs {'lora_embedding_A' if not embedding else 'lora_A'} and "
            f"{'lora_embedding_B' if not embedding else 'lora_B'}, as PEFT writes them.",
            param="file",
        )
    weight = own[1]
    # An embedding's weight is (vocabulary, hidden) = (in, out).
    out_dim, in_dim = (weight[1], weight[0]) if embedding else (weight[0], weight[1])
    if (b[0], a[1]) != (out_dim, in_dim):
        raise Invalid(
            f"Module '{shown}': the adapter maps {a[1]} to {b[0]} features, the base model "
            f"{in_dim} to {out_dim}: it was trained on another base.",
            param="base_model_name_or_path",
        )
    return rank


def is_embedding(module: str) -> bool:
    """Whether a module looks its rows up, by its name."""
    return module.rpartition(".")[2] in _EMBEDDINGS


def weight_of(base: BaseModel, module: str) -> tuple[str, tuple[int, ...]] | None:
    """Where the base keeps a module's weight, and its shape; None if it has no such module.

    The head of a tied model has no weight of its own: it is the embedding's.
    """
    if module not in base.shapes and module == _HEAD:
        module = next(filter(is_embedding, base.shapes), module)
    shape = base.shapes.get(module)
    return None if shape is None else (module, shape)


def value_of(setting: str, pattern: str, module: str, config: Mapping[str, Any]) -> Any:
    """A module's value of a setting such as `r`: its own from the pattern, else everybody's."""
    return Pattern(config.get(pattern)).of(module, config[setting])
