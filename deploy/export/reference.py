"""What the source says: greedy answers and logits of the fp32 model plus PEFT adapter.

Owns the source of truth an export is held against, and the merged copy of it that is built from.
Must not know graphs, exports or limits.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from core.errors import Invalid
from deploy.export.prompts import Conversation
from trainer.model.encoding import encode_prompt
from trainer.model.sampling import generate
from trainer.model.warm import WarmModel

ANSWER_TOKENS = 64
LIKELY = 64
"""The source's likeliest tokens at a position, among which logits are compared."""
_LONGEST_PROMPT = 1024
_BATCH = 16
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "config.json")


@dataclass(frozen=True, slots=True)
class Expected:
    """One prompt's reference. `greedy` are 64 tokens, past any end; `sampled` is an answer drawn
    at temperature 1 up to its end. At each of its T positions: the `LIKELY` likeliest tokens,
    best first, their logits (T, LIKELY), and the drawn token's log probability (T,) in nats."""

    prompt: tuple[int, ...]
    greedy: tuple[int, ...]
    sampled: tuple[int, ...]
    likely: np.ndarray
    logits: np.ndarray
    logprobs: np.ndarray


def measure(
    model: WarmModel,
    adapter: Path | None,
    prompts: Sequence[Conversation],
    on_share: Callable[[float], None] = lambda _: None,
) -> list[Expected]:
    """The reference for every prompt that fits, in order; `on_share` gets the share done.

    `model` is on the CPU. Raises Invalid when no prompt fits.
    """
    fitting = [ids for prompt in prompts if (ids := _encode(model, prompt))]
    if not fitting:
        raise Invalid(
            f"None of the {len(prompts)} prompts passes the model's chat template and leaves "
            f"room for {ANSWER_TOKENS} tokens of answer; nothing could be compared.",
            param="prompts",
        )
    found: list[Expected] = []
    with model.adapted(adapter, exact=True) as adapted, torch.random.fork_rng([]):
        torch.manual_seed(0)
        # A greedy answer goes on past its end: an id no token has can never be drawn.
        never = [int(adapted.config.vocab_size)]
        for start in range(0, len(fitting), _BATCH):
            batch = fitting[start : start + _BATCH]
            on_share(start / len(fitting))
            greedy = generate(model, adapted, batch, 0.0, ANSWER_TOKENS, never)
            sampled = generate(model, adapted, batch, 1.0, ANSWER_TOKENS)
            found += map(partial(_expect, adapted), batch, greedy, sampled)
    return found


def fits(model: WarmModel, prompt: Conversation) -> bool:
    """Whether the chat template takes it and an answer has room after it."""
    return bool(_encode(model, prompt))


def save_merged(model: WarmModel, adapter: Path, out: Path) -> None:
    """Write the model with the adapter folded in, with the tokenizer's files.

    The weights of `model` have changed then: it is of no further use.
    """
    with model.adapted(adapter, exact=True) as adapted:
        try:
            adapted.merge_and_unload().save_pretrained(out)
        except SafetensorError as error:
            # It tells trouble with the disk in words only.
            raise OSError(errno.ENOSPC, str(error)) from error
    for file in Path(model.path).iterdir():
        weights = any(file.match(pattern) for pattern in _WEIGHTS)
        if file.is_file() and not weights:
            shutil.copyfile(file, out / file.name)


def _encode(model: WarmModel, prompt: Conversation) -> list[int]:
    """Token ids; none if the chat template refuses the prompt, or no answer has room after it."""
    try:
        ids = encode_prompt(model.tokenizer, prompt)
    except Invalid:
        return []
    room = (model.context_tokens or 1 << 30) - ANSWER_TOKENS - 1
    return ids if len(ids) <= min(room, _LONGEST_PROMPT) else []


def _expect(adapted: Any, prompt: list[int], greedy: list[int], sampled: list[int]) -> Expected:
    ids = torch.tensor([[*prompt, *sampled[:-1]]])
    logits = adapted(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
    values, tokens = logits.topk(min(LIKELY, logits.shape[-1]))
    drawn = torch.tensor(sampled)[:, None]
    logprobs = logits.log_softmax(-1).gather(-1, drawn)[:, 0]
    return Expected(
        tuple(prompt),
        tuple(greedy),
        tuple(sampled),
        tokens.int().numpy(),
        values.numpy(),
        logprobs.double().numpy(),
    )
