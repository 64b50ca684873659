"""Answers drawn from the base and its adapters, the same for the same seed.

Owns the generation settings and the batches. Must not know: templates, what is asked and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from adapters.artifacts.digest import adapter_digest
from feedback.token_ids import Ids
from trainer.model.warm import WarmModel

_BATCH = 75


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer; `ids` ends with the end token if the model `ended` by itself."""

    text: str
    ids: tuple[int, ...]
    ended: bool


def answers(
    model: WarmModel,
    prompts: Sequence[Ids],
    adapter_dir: Path | None,
    temperature: float = 0.0,
    max_new_tokens: int = 96,
    seed: int = 0,
) -> tuple[Answer, ...]:
    """One answer per prompt, of token ids, from the full distribution; temperature 0 is greedy.

    The same arguments give the same answers, and the model remembers the last few calls.
    """
    adapter = adapter_digest(adapter_dir) if adapter_dir else "base"
    wanted = (adapter, temperature, max_new_tokens, seed)
    heads = [list(prompt) for prompt in prompts]
    key = hashlib.sha256(repr((wanted, heads)).encode()).hexdigest()

    def sample() -> tuple[Answer, ...]:
        cuda = [model.device] if model.device.type == "cuda" else []
        with model.adapted(adapter_dir) as adapted, torch.random.fork_rng(cuda):
            torch.manual_seed(seed)
            config = generation(model, adapted, temperature, max_new_tokens)
            order = sorted(range(len(heads)), key=lambda row: len(heads[row]))  # less padding
            found: dict[int, Answer] = {}
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                batch = generate(model, adapted, [heads[row] for row in rows], config)
                for row, ids in zip(rows, batch, strict=True):
                    text = model.tokenizer.decode(ids, skip_special_tokens=True).strip()
                    found[row] = Answer(text, tuple(ids), ids[-1] in config.eos_token_id)
        return tuple(found[row] for row in range(len(heads)))

    return model.remembered(key, sample)


def generation(
    model: WarmModel, adapted: Any, temperature: float, max_new_tokens: int
) -> GenerationConfig:
    """How tokens are drawn: from the full distribution; temperature 0 is greedy."""
    # What is left out is filled from the model's own generation_config, whose top_p or
    # repetition penalty would not be the whole distribution.
    drawn = {"top_k": 0, "top_p": 1.0} if temperature else {}
    return GenerationConfig(
        **drawn,
        do_sample=temperature > 0,
        temperature=temperature or 1.0,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=sorted(end_tokens(model, adapted)),
        pad_token_id=model.tokenizer.pad_token_id,
    )


def end_tokens(model: WarmModel, adapted: Any) -> set[int]:
    """What the model ends an answer with by itself."""
    own = adapted.generation_config.eos_token_id
    return {model.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}


def generate(
    model: WarmModel, adapted: Any, heads: Sequence[list[int]], config: GenerationConfig
) -> list[list[int]]:
    """The ids drawn after each of `heads`, up to its end; one batch, padded on the left."""
    width = max(map(len, heads))
    pads = [width - len(head) for head in heads]
    ids = [[config.pad_token_id] * pad + head for pad, head in zip(pads, heads, strict=True)]
    mask = [[0] * pad + [1] * (width - pad) for pad in pads]
    output = adapted.generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=config,
    )
    return [_until_end(tokens, config.eos_token_id) for tokens in output[:, width:].tolist()]


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    at = next((at for at, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: at + 1]
