"""One base model, loaded once and kept warm: it answers, scores, and is lent out for training.

Owns torch's view of the base model and the promise that every borrower gets the same weights,
bit for bit. Must not know: feedback, runs, how a candidate is judged.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from adapters.artifacts.digest import adapter_digest
from core.errors import Invalid, Unavailable
from trainer.types import Prompt

_LOGITS_AT_ONCE = 2**26
"""Most float32 logits held at a time while scoring: 256 MiB."""
_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer; `ids` ends with the end token if the model `ended` by itself."""

    text: str
    ids: tuple[int, ...]
    ended: bool


class WarmModel:
    """The base model at `path` (a folder or a hub id): float32 on CPU, bfloat16 on CUDA.

    Loading happens on first use; Unavailable when it fails. `threads` sets torch's threads, 0
    leaves them. Safe to share between threads: one borrower at a time.
    """

    def __init__(self, path: str, *, threads: int = 0) -> None:
        self.path = path
        self._base: Any = None
        self._checksum: tuple[int, ...] = ()
        self._lock = threading.RLock()
        self._answers: OrderedDict[str, tuple[Answer, ...]] = OrderedDict()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if threads:
            torch.set_num_threads(threads)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, with a padding token in any case."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path)
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"No tokenizer could be loaded from {self.path!r}: {error}"
            ) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def parameters(self) -> int:
        """How many weights the base model has."""
        return sum(weight.numel() for weight in self._loaded().parameters())

    @contextmanager
    def borrow(self) -> Iterator[Any]:
        """The bare base model, to be wrapped and trained; restored and verified afterwards.

        Raises Unavailable when the borrower changed a base weight: whatever it produced must be
        thrown away, and the next borrower gets a newly loaded base.
        """
        with self._lock:
            base = self._loaded()
            try:
                yield base
            finally:
                _strip(base)
                if _checksum(base) != self._checksum:
                    self._base = None
                    raise Unavailable(
                        "The base model's weights changed while they were lent out; the result "
                        "was discarded and the model will be loaded again. Start the run again."
                    )

    @contextmanager
    def adapted(self, adapter_dir: Path | None) -> Iterator[Any]:
        """The model in evaluation mode with the adapter in `adapter_dir`, or as the bare base."""
        with self._lock, torch.no_grad():
            base = self._loaded()
            if adapter_dir is None:
                yield base
                return
            try:
                yield PeftModel.from_pretrained(base, str(adapter_dir)).eval()
            finally:
                _strip(base)

    def encode(self, prompt: Prompt, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of prompt and completion, split where TRL splits them.

        Messages go through the chat template, so the completion carries the template's end of
        turn; plain text gets the end token. Raises Invalid when the template refuses them.

        Source: trl 1.16, `KTOTrainer._prepare_dataset`.
        """
        head = self.encode_prompt(prompt)
        if isinstance(prompt, str):
            end = self.tokenizer.eos_token or ""
            text = prompt + completion
            full = self.tokenizer(text if text.endswith(end) else text + end)["input_ids"]
        else:
            said = [*map(dict, prompt), {"role": "assistant", "content": completion}]
            full = self._template(said, add_generation_prompt=False)
        shared = 0
        while shared < min(len(head), len(full)) and head[shared] == full[shared]:
            shared += 1
        return full[:shared], full[shared:]

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids a completion of `prompt` is sampled after."""
        if isinstance(prompt, str):
            return list(self.tokenizer(prompt)["input_ids"])
        return self._template([*map(dict, prompt)], add_generation_prompt=True)

    def readable(self, prompt: Prompt, completion: str) -> bool:
        """Whether the template takes it and prompt and completion fit the model's context."""
        try:
            head, tail = self.encode(prompt, completion)
        except Invalid:
            return False
        limit = getattr(self._loaded().config, "max_position_embeddings", None)
        return bool(tail) and (limit is None or len(head) + len(tail) <= limit)

    def generate(
        self,
        prompts: Sequence[Prompt],
        adapter_dir: Path | None,
        temperature: float = 0.0,
        max_new_tokens: int = 96,
        seed: int = 0,
        batch_size: int = 75,
    ) -> list[str]:
        """One answer per prompt, as text; see `answers`."""
        found = self.answers(prompts, adapter_dir, temperature, max_new_tokens, seed, batch_size)
        return [answer.text for answer in found]

    def answers(
        self,
        prompts: Sequence[Prompt],
        adapter_dir: Path | None,
        temperature: float = 0.0,
        max_new_tokens: int = 96,
        seed: int = 0,
        batch_size: int = 75,
    ) -> tuple[Answer, ...]:
        """One answer per prompt from the full distribution; temperature 0 is greedy.

        The same arguments give the same answers, and the last few calls are remembered.
        """
        adapter = adapter_digest(adapter_dir) if adapter_dir else "base"
        wanted = (adapter, temperature, max_new_tokens, seed, batch_size)
        key = hashlib.sha256(repr((wanted, tuple(prompts))).encode()).hexdigest()
        with self._lock:
            if key not in self._answers:
                self._answers[key] = self._sample(
                    prompts, adapter_dir, temperature, max_new_tokens, seed, batch_size
                )
                while len(self._answers) > _REMEMBERED:
                    self._answers.popitem(last=False)
            self._answers.move_to_end(key)
            return self._answers[key]

    def logprobs(
        self, items: Sequence[tuple[Prompt, str]], adapter_dir: Path | None
    ) -> list[float]:
        """log p(completion | prompt) per item, in nats, summed over the completion's tokens."""
        encoded = [self.encode(prompt, completion) for prompt, completion in items]
        found = [0.0] * len(items)
        with self.adapted(adapter_dir) as model:
            for rows, ids, mask in self._batches(encoded):
                logps = model(**_inputs(ids)).logits[:, :-1].float().log_softmax(-1)
                picked = logps.gather(-1, ids["input_ids"][:, 1:, None]).squeeze(-1)
                for row, value in zip(rows, (picked * mask).sum(-1).tolist(), strict=True):
                    found[row] = value
        return found

    def kl_to_base(
        self, items: Sequence[tuple[Prompt, Sequence[int]]], adapter_dir: Path
    ) -> list[float]:
        """KL(adapter || base) over the whole vocabulary, summed over the answer's tokens, nats.

        `items` pair a prompt with token ids the adapter sampled at temperature 1; the mean over
        many is the sequence KL of the two policies.
        """
        encoded = [(self.encode_prompt(prompt), list(ids)) for prompt, ids in items]
        found = [0.0] * len(items)
        with self.adapted(adapter_dir) as model:
            for rows, ids, mask in self._batches(encoded):
                adapted = model(**_inputs(ids)).logits[:, :-1].float().log_softmax(-1)
                with model.disable_adapter():
                    plain = model(**_inputs(ids)).logits[:, :-1].float().log_softmax(-1)
                tokens = (adapted.exp() * (adapted - plain)).sum(-1)
                for row, value in zip(rows, (tokens * mask).sum(-1).tolist(), strict=True):
                    found[row] = value
        return found

    def _loaded(self) -> Any:
        with self._lock:
            if self._base is None:
                dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
                try:
                    base = AutoModelForCausalLM.from_pretrained(self.path, dtype=dtype)
                except (OSError, ValueError) as error:
                    raise Unavailable(
                        f"The base model {self.path!r} could not be loaded: {error}"
                    ) from error
                self._base = base.to(self.device).eval().requires_grad_(False)
                self._checksum = _checksum(self._base)
            return self._base

    def _template(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> list[int]:
        try:
            return list(
                self.tokenizer.apply_chat_template(
                    messages,
                    tokenize=True,
                    return_dict=True,
                    add_generation_prompt=add_generation_prompt,
                )["input_ids"]
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            raise Invalid(f"The model's chat template refuses these messages: {error}") from error

    def _sample(
        self,
        prompts: Sequence[Prompt],
        adapter_dir: Path | None,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        batch_size: int,
    ) -> tuple[Answer, ...]:
        heads = [self.encode_prompt(prompt) for prompt in prompts]
        order = sorted(range(len(heads)), key=lambda row: len(heads[row]))
        found: dict[int, Answer] = {}
        cuda = [self.device] if self.device.type == "cuda" else []
        with self.adapted(adapter_dir) as model, torch.random.fork_rng(cuda):
            torch.manual_seed(seed)
            config = self._generation(temperature, max_new_tokens)
            ends = set(config.eos_token_id)
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                width = max(len(heads[row]) for row in rows)
                pads = [width - len(heads[row]) for row in rows]
                ids = [
                    [config.pad_token_id] * n + heads[r] for n, r in zip(pads, rows, strict=True)
                ]
                mask = [[0] * n + [1] * (width - n) for n in pads]
                output = model.generate(
                    input_ids=torch.tensor(ids, device=self.device),
                    attention_mask=torch.tensor(mask, device=self.device),
                    generation_config=config,
                )
                for row, tokens in zip(rows, output[:, width:].tolist(), strict=True):
                    found[row] = self._answer(tokens, ends)
        return tuple(found[row] for row in range(len(heads)))

    def _answer(self, tokens: list[int], ends: set[int]) -> Answer:
        stop = next((at for at, token in enumerate(tokens) if token in ends), None)
        ids = tokens if stop is None else tokens[: stop + 1]
        text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return Answer(text, tuple(ids), stop is not None)

    def _generation(self, temperature: float, max_new_tokens: int) -> GenerationConfig:
        own = self._loaded().generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
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
            eos_token_id=sorted(ends),
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def _batches(
        self, encoded: Sequence[tuple[list[int], list[int]]]
    ) -> Iterator[tuple[list[int], dict[str, Any], Any]]:
        # Right-padded batches of similar length: (rows, ids [b, t], completion mask [b, t - 1]).
        order = sorted(range(len(encoded)), key=lambda row: -sum(map(len, encoded[row])))
        vocabulary = self._loaded().get_input_embeddings().weight.shape[0]
        while order:
            width = max(2, sum(map(len, encoded[order[0]])))
            size = max(1, min(64, _LOGITS_AT_ONCE // (width * vocabulary)))
            rows, order = order[:size], order[size:]
            ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
            attention = torch.zeros((len(rows), width), dtype=torch.long)
            completion = torch.zeros((len(rows), width))
            for at, row in enumerate(rows):
                head, tail = encoded[row]
                ids[at, : len(head) + len(tail)] = torch.tensor(head + tail)
                attention[at, : len(head) + len(tail)] = 1
                completion[at, len(head) : len(head) + len(tail)] = 1
            batch = {"input_ids": ids.to(self.device), "attention_mask": attention.to(self.device)}
            yield rows, batch, completion[:, 1:].to(self.device)


def _inputs(ids: dict[str, Any]) -> dict[str, Any]:
    return {**ids, "use_cache": False}


def _strip(base: Any) -> None:
    """Undo what PEFT and TRL did to `base`: adapter layers, the patched forward, gradients."""
    for name, module in list(base.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, module.get_base_layer())
    # trl 1.16's add_fused_lm_head shadows the class's forward on the instance.
    base.__dict__.pop("forward", None)
    base.__dict__.pop("peft_config", None)
    base.eval().requires_grad_(False)
    base.zero_grad(set_to_none=True)


def _checksum(base: Any) -> tuple[int, ...]:
    """Per tensor, the sum of its bit patterns as integers."""
    by_size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tuple(
        int(tensor.detach().contiguous().view(by_size[tensor.element_size()]).sum())
        for tensor in [*base.parameters(), *base.buffers()]
    )
