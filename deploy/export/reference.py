"""What the source says: greedy answers and logits of the fp32 model plus PEFT adapter.

Owns the source of truth an export is held against, and the merged copy of it that is built from.
Must not know graphs, exports or limits. Loads torch, transformers and peft.
"""

from __future__ import annotations

import errno
import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from core.errors import Invalid
from deploy.export.prompts import Conversation

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


class Source:
    """A model in memory, float32 on the CPU, with at most one adapter around it."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._folder = folder

    @property
    def architecture(self) -> str:
        """The class named in the model's configuration."""
        names = getattr(self._model.config, "architectures", None) or ["an unnamed architecture"]
        return str(names[0])

    @property
    def context_length(self) -> int:
        """Tokens the model was made for."""
        return int(getattr(self._model.config, "max_position_embeddings", 0) or 0)

    def measure(
        self, prompts: Sequence[Conversation], on_prompt: Callable[[int], None] = lambda _: None
    ) -> list[Expected]:
        """The reference for every prompt that fits, in order; `on_prompt` gets the number done.

        Raises Invalid when no prompt fits.
        """
        encoded = [self._encode(prompt) for prompt in prompts]
        fitting = [ids for ids in encoded if self._has_room(ids)]
        if not fitting:
            raise Invalid(
                f"None of the {len(encoded)} prompts passes the model's chat template and leaves "
                f"room for {ANSWER_TOKENS} tokens of answer; nothing could be compared.",
                param="prompts",
            )
        found: list[Expected] = []
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.manual_seed(0)
            for start in range(0, len(fitting), _BATCH):
                batch = fitting[start : start + _BATCH]
                on_prompt(start)
                greedy = self._generate(batch, sample=False)
                sampled = self._generate(batch, sample=True)
                found += map(self._expect, batch, greedy, sampled)
        return found

    def fits(self, prompt: Conversation) -> bool:
        """Whether the chat template takes it and an answer has room after it."""
        return self._has_room(self._encode(prompt))

    def save_merged(self, out: Path) -> None:
        """Write the model with its adapter folded in, float32, with the tokenizer's files."""
        merged = self._model.merge_and_unload() if isinstance(self._model, PeftModel) else None
        if merged is not None:
            self._model = merged
        try:
            self._model.save_pretrained(out)
        except SafetensorError as error:
            # It tells trouble with the disk in words only.
            raise OSError(errno.ENOSPC, str(error)) from error
        for file in self._folder.iterdir():
            weights = any(file.match(pattern) for pattern in _WEIGHTS)
            if file.is_file() and not weights:
                shutil.copyfile(file, out / file.name)

    def _encode(self, prompt: Conversation) -> list[int]:
        """Token ids; none if the chat template refuses the prompt."""
        try:
            ids = self._tokenizer.apply_chat_template(
                [*map(dict, prompt)], tokenize=True, return_dict=True, add_generation_prompt=True
            )["input_ids"]
        except (TemplateError, TypeError, KeyError, ValueError):
            return []
        return list(ids)

    def _has_room(self, ids: Sequence[int]) -> bool:
        room = (self.context_length or 1 << 30) - ANSWER_TOKENS - 1
        return 0 < len(ids) <= min(room, _LONGEST_PROMPT)

    def _generate(self, batch: Sequence[list[int]], *, sample: bool) -> list[list[int]]:
        width = max(map(len, batch))
        pads = [width - len(ids) for ids in batch]
        # A greedy answer goes on past its end: an id no token has can never be drawn.
        ends = self._ends() if sample else [int(self._model.config.vocab_size)]
        config = GenerationConfig(
            do_sample=sample,
            **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}),
            max_new_tokens=ANSWER_TOKENS,
            use_cache=True,
            eos_token_id=ends,
            pad_token_id=0,
        )
        output = self._model.generate(
            input_ids=torch.tensor([[0] * pad + ids for pad, ids in zip(pads, batch, strict=True)]),
            attention_mask=torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads]),
            generation_config=config,
        )
        return [_until_end(tokens, ends) for tokens in output[:, width:].tolist()]

    def _expect(self, prompt: list[int], greedy: list[int], sampled: list[int]) -> Expected:
        ids = torch.tensor([[*prompt, *sampled[:-1]]])
        logits = self._model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
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

    def _ends(self) -> list[int]:
        own = self._model.generation_config.eos_token_id
        ends = {self._tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
        return sorted(end for end in ends if end is not None)


@contextmanager
def source(model: Path, adapter: Path | None) -> Iterator[Source]:
    """The model in `model` with the adapter in `adapter`; its memory is free afterwards.

    Raises Invalid when either cannot be loaded.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        loaded = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, local_files_only=True
        )
        if adapter is not None:
            loaded = PeftModel.from_pretrained(loaded, str(adapter))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Invalid(
            f"The source model in {model} could not be loaded: {str(error)[:300]}", param="model"
        ) from error
    found = Source(loaded.eval().requires_grad_(False), tokenizer, model)
    del loaded
    try:
        yield found
    finally:
        found._model = None
        gc.collect()


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    at = next((at for at, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: at + 1]
