"""Answers drawn from the base and its adapters, the same for the same seed.

Owns the generation settings and the batches. Must not know: templates, what is asked and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from adapters.artifacts.digest import adapter_digest
from feedback.token_ids import Ids
from trainer.model.warm import WarmModel

_TOKENS_AT_ONCE = 24_576
"""Of prompts and answers, whose keys and values are in memory together."""
_WORTH_SHARING = 8
"""Tokens at the beginning of all prompts: a system prompt, not the template's first mark."""


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
            ends = end_tokens(model, adapted)
            order = sorted(range(len(heads)), key=lambda row: -len(heads[row]))  # less padding
            found: dict[int, Answer] = {}
            while order:
                size = max(1, _TOKENS_AT_ONCE // (len(heads[order[0]]) + max_new_tokens))
                rows, order = order[:size], order[size:]
                asked = [heads[row] for row in rows]
                batch = generate(model, adapted, asked, temperature, max_new_tokens)
                for row, ids in zip(rows, batch, strict=True):
                    text = model.tokenizer.decode(ids, skip_special_tokens=True).strip()
                    found[row] = Answer(text, tuple(ids), ids[-1] in ends)
        return tuple(found[row] for row in range(len(heads)))

    return model.remembered(key, sample)


def end_tokens(model: WarmModel, adapted: Any) -> set[int]:
    """What the model ends an answer with by itself."""
    own = adapted.generation_config.eos_token_id
    return {model.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}


def generate(
    model: WarmModel,
    adapted: Any,
    heads: Sequence[list[int]],
    temperature: float,
    max_new_tokens: int,
    ends: Collection[int] | None = None,
) -> list[list[int]]:
    """The ids drawn after each of `heads`, up to one of `ends`, else the model's own; one batch.

    From the full distribution, by torch's dice; temperature 0 is greedy. What all heads begin with
    is read once; the rest is padded on its left.
    """
    ends = sorted(end_tokens(model, adapted) if ends is None else ends)
    pad = model.tokenizer.pad_token_id
    shared = _shared(heads) if adapted._supports_default_dynamic_cache() else 0
    width = max(map(len, heads))
    gaps = [width - len(head) for head in heads]
    ids = [
        head[:shared] + [pad] * gap + head[shared:] for head, gap in zip(heads, gaps, strict=True)
    ]
    mask = [[1] * shared + [0] * gap + [1] * (width - shared - gap) for gap in gaps]
    read = torch.tensor(ids, device=model.device)
    known = _read_once(adapted, read[:1, :shared], len(heads)) if shared else {}
    # What is left out is filled from the model's own generation_config, whose top_p or
    # repetition penalty would not be the whole distribution.
    config = GenerationConfig(
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=ends,
        pad_token_id=pad,
    )
    dice = [_Drawn(temperature, len(heads), max_new_tokens)] if temperature else []
    output = adapted.generate(
        input_ids=read,
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=config,
        logits_processor=LogitsProcessorList(dice),
        **known,
    )
    return [_until_end(tokens, ends) for tokens in output[:, width:].tolist()]


class _Drawn(LogitsProcessor):
    """Leaves one token per row: where a uniform number falls among the summed probabilities.

    The numbers are thrown beforehand, so that a row's answer does not depend on the others'. A
    draw by `torch.multinomial` throws one for each token of the vocabulary, a fifth of the time.
    """

    def __init__(self, temperature: float, rows: int, tokens: int) -> None:
        self._temperature = temperature
        self._thrown = iter(torch.rand(tokens, rows, 1, dtype=torch.float64))

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        below = (scores.float() / self._temperature).softmax(-1).double().cumsum(-1)
        thrown = next(self._thrown).to(scores.device) * below[:, -1:]
        drawn = torch.searchsorted(below, thrown, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


def _shared(heads: Sequence[list[int]]) -> int:
    """How many tokens all heads begin with, where that is worth a pass; one of each is left."""
    if len(heads) < 2:
        return 0
    first, most = heads[0], min(map(len, heads)) - 1
    shared = next(
        (at for at in range(most) if any(head[at] != first[at] for head in heads)), max(0, most)
    )
    return shared if shared >= _WORTH_SHARING else 0


def _read_once(adapted: Any, ids: Any, rows: int) -> dict[str, Any]:
    """The cache of `ids` [1, t], for each of `rows` rows."""
    cache = DynamicCache(config=adapted.config.get_text_config(decoder=True))
    adapted(input_ids=ids, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return {"past_key_values": cache}


def _until_end(tokens: list[int], ends: Collection[int]) -> list[int]:
    at = next((at for at, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: at + 1]
