"""What a training takes of memory and time, measured on two short passes before it begins, and how
it is laid out so that it fits.

Must not know: methods, what the rows are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core.errors import Invalid
from trainer.methods.method import Row

ENOUGH_TOKENS = {"cpu": 512, "cuda": 8192}
"""Tokens that keep a device busy; more at a time cost memory and padding and gain nothing."""

_PROBE_TOKENS = 160
_OF_FREE = 0.8  # of the free memory is planned with; the rest is for what cannot be foreseen
_BYTES_PER_TRAINED = 16  # a float32 weight, its gradient and Adam's two moments
_HEAD_TILE = 32_768  # of the vocabulary at a time; source: trl 1.16, _CHUNKED_LOGPROB_CHUNK_SIZE
_HEAD_TENSORS = 6  # float32 tiles that TRL's head holds while it goes back
_BACKWARD = 1.3  # of a forward pass: base weights get no gradient


@dataclass(frozen=True, slots=True)
class Work:
    """The tokens of a training: of its longest example, and of all passes together.

    `learnt` go forward and back, `read` only forward: the KL term's and the reference's.
    """

    longest: int
    learnt: int
    read: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How a training is laid out, and about what it takes beside the base model."""

    tokens_at_once: int
    checkpointing: bool
    memory_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model takes while it is trained: in all, and for every token at a time."""

    fixed_bytes: int
    token_bytes: int
    checkpointed_token_bytes: int
    token_s: float  # forward


def fit(
    cost: Cost, work: Work, free_bytes: int, enough_tokens: int, checkpointing: bool | None
) -> Fit:
    """The layout that fits into `free_bytes`; checkpointing where it is asked for, or needed.

    Raises Invalid where not even the longest example fits.
    """
    room = int(free_bytes * _OF_FREE) - cost.fixed_bytes
    plain = room // cost.token_bytes
    checkpoints = plain < work.longest if checkpointing is None else checkpointing
    token_bytes = cost.checkpointed_token_bytes if checkpoints else cost.token_bytes
    tokens = min(enough_tokens, room // token_bytes)
    # An example that is longer than enough tokens is still a part of its own.
    at_once = max(tokens, min(work.longest, room // token_bytes))
    needed = cost.fixed_bytes + token_bytes * max(at_once, work.longest)
    if at_once < work.longest:
        raise Invalid(
            f"This training does not fit: it takes about {_gib(needed / _OF_FREE)} of memory "
            f"beside the base model, for an example of {work.longest} tokens, and "
            f"{_gib(free_bytes)} are free. Lower ATTUNE_TRAIN_MAX_LENGTH (longer examples are "
            "left out) or ATTUNE_TRAIN_RANK, or give the trainer more memory.",
            param="max_length",
        )
    again = 1.0 if checkpoints else 0.0
    seconds = cost.token_s * (work.learnt * (1 + _BACKWARD + again) + work.read)
    return Fit(at_once, checkpoints, needed, seconds)


def measure(model: Any, vocabulary: int, adapt: Callable[[], int]) -> Cost:
    """The cost of training the adapter on `model`, a PEFT model; two short passes."""
    adapt()
    model.train()
    config = model.get_base_model().config.get_text_config()
    many = min(_PROBE_TOKENS, getattr(config, "max_position_embeddings", None) or _PROBE_TOKENS)
    few = many // 4
    (short, _), (long, seconds) = (_probe(model, tokens) for tokens in (few, many))
    saved = max(1, (long - short) // (many - few))
    head = min(vocabulary, _HEAD_TILE) * 4 * _HEAD_TENSORS
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    layers, hidden = config.num_hidden_layers, config.hidden_size
    return Cost(
        fixed_bytes=trained * _BYTES_PER_TRAINED + max(0, short - few * saved),
        token_bytes=saved + head,
        checkpointed_token_bytes=layers * hidden * 4 + saved // layers + head,
        token_s=seconds / many,
    )


def _probe(model: Any, tokens: int) -> tuple[int, float]:
    """Bytes kept for the way back by a pass over so many tokens, weights aside; its seconds."""
    weights = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros((1, tokens), dtype=torch.long, device=model.device)
    began_s = time.monotonic()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.get_base_model().base_model(input_ids=ids, use_cache=False)
    output.last_hidden_state.detach()[0, -1, 0].item()  # waits for a GPU
    return sum(kept.values()), time.monotonic() - began_s


def work_of(rows: Sequence[Row], reference: Sequence[str], kl_share: float) -> Work:
    """The tokens of all `rows`; `kl_share` of them have their KL completion read at each visit.

    `reference`: the columns whose answers the reference reads, once for each distinct one.
    """
    longest = learnt = kl = 0
    distinct: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for row in rows:
        sides = _sides(row)
        longest, learnt = max(longest, len(sides) * max(sides)), learnt + sum(sides)
        kl += len(row["prompt_ids"]) + len(row["KL_completion_ids"]) if _has_kl(row) else 0
        for column in reference:
            answer = tuple(row["prompt_ids"]), tuple(row[column])
            distinct[answer] = sum(map(len, answer))
    return Work(longest, learnt, int(kl * kl_share) + sum(distinct.values()))


def _has_kl(row: Row) -> bool:
    return "KL_completion_ids" in row


def _sides(row: Row) -> list[int]:
    """Tokens of each sequence of an example that is learnt."""
    if "input_ids" in row:
        return [len(row["input_ids"])]
    head = len(row["prompt_ids"])
    names = ("completion_ids", "chosen_ids", "rejected_ids")
    return [head + len(row[name]) for name in names if name in row]


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
