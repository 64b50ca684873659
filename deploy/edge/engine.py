"""The exported model, run by onnxruntime-genai: one model, adapters taken in when first asked.

Owns tokens, the chat template, sampling and the context limit. One generation runs at a time: the
callers share one thread. Must not know HTTP, the store or the network.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import onnxruntime_genai as og

from core.errors import Conflict, Invalid, Unavailable
from deploy.edge.installed import Installation, Variant
from deploy.edge.text import StopScan, TextTokenizer
from deploy.edge.types import Message, Sampling

DEFAULT_MAX_TOKENS = 1024
"""Tokens of an answer when the request names no limit: the KV cache is allocated in one piece."""


class Engine:
    """A loaded export. Not for several threads at once."""

    def __init__(self, installation: Installation) -> None:
        """Check the files and load them. Raises Conflict or Invalid if they are damaged."""
        installation.check_model()
        folder = installation.model_folder
        try:
            config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
            self._search: dict[str, Any] = dict(config.get("search") or {})
            limit = int(config["model"]["context_length"])
            self._model = og.Model(str(folder))
            self._tokenizer = og.Tokenizer(self._model)
            # The template writes what begins a prompt; the tokenizer must not add it again.
            self._tokenizer.update_options(add_special_tokens="false")
            text_file = folder / "tokenizer.json"
            self._text = TextTokenizer(text_file) if text_file.is_file() else None
            self._adapters = og.Adapters(self._model)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise Conflict(
                f"The model in {folder} cannot be loaded: {_first_line(error)} Pull or export it "
                "again.",
                code="model_not_loaded",
            ) from error
        self.context_length = min(limit, installation.manifest.model.context_length)
        self._end_ids = frozenset(int(token) for token in self._tokenizer.eos_token_ids)
        self._loaded: set[str] = set()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, special tokens in it read as such."""
        if self._text is not None:
            return self._text.encode(text)
        try:
            return [int(token) for token in self._tokenizer.encode(text)]
        except RuntimeError as error:
            raise Invalid(
                f"The model's tokenizer fails on these messages: {_first_line(error)}",
                param="messages",
            ) from error

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the model's own chat template writes it. Raises Invalid if it refuses."""
        try:
            text = self._tokenizer.apply_chat_template(
                json.dumps(list(messages)), add_generation_prompt=True
            )
        except RuntimeError as error:
            raise Invalid(
                f"The model's chat template does not take these messages: {_first_line(error)}",
                param="messages",
            ) from error
        return str(text)

    def start(
        self,
        variant: Variant,
        messages: Sequence[Message],
        sampling: Sampling,
        gone: Event | None = None,
    ) -> Generation:
        """As `Speaker` has it; Conflict if the model does not take the adapter."""
        prompt = self.encode(self.render(messages))
        wanted = sampling.max_tokens
        room = self.context_length - len(prompt)
        if room < max(wanted or 1, 1):
            asked = f" and {wanted:,} tokens of answer are asked for" if wanted else ""
            shorten = "Shorten the messages or the answer." if wanted else "Shorten the messages."
            raise Invalid(
                f"The model's context is {self.context_length:,} tokens; the messages have "
                f"{len(prompt):,}{asked}. {shorten}",
                param="messages",
                code="context_length_exceeded",
            )
        limit = wanted or min(room, DEFAULT_MAX_TOKENS)
        try:
            params = og.GeneratorParams(self._model)
            params.set_search_options(
                max_length=len(prompt) + limit, **_search(sampling, self._search)
            )
            generator = og.Generator(self._model, params)
            if variant.file is not None:
                if variant.digest not in self._loaded:
                    self._adapters.load(str(variant.file), variant.digest)
                    self._loaded.add(variant.digest)
                generator.set_active_adapter(self._adapters, variant.digest)
            stream = self._tokenizer.create_stream()
        except RuntimeError as error:
            raise Conflict(
                f"{variant.name} cannot answer: {_first_line(error)}", code="model_not_loaded"
            ) from error
        scan = StopScan(sampling.stop)
        return Generation(generator, stream, prompt, self._end_ids, scan, gone or Event())


@dataclass(slots=True)
class Generation:
    """One answer in the making: iterate for its text, piece by piece, never half a character.

    `token_ids` and `finish_reason` ("stop", "length", or "cancelled" once `gone` is set) are final
    once the iteration has ended. Times in milliseconds since the start.
    """

    generator: Any
    stream: Any
    prompt: list[int]
    ends: frozenset[int]
    scan: StopScan
    gone: Event
    text: str = ""
    finish_reason: str = "length"
    token_ids: list[int] = field(default_factory=list)
    first_token_ms: float | None = None
    duration_ms: float = 0.0
    _began_s: float = field(default_factory=time.perf_counter)

    def __iter__(self) -> Iterator[str]:
        for token in self._tokens():
            piece = self.scan.push(self.stream.decode(token))
            self.text += piece
            if piece:
                yield piece
            if self.scan.stopped:
                self.finish_reason = "stop"
                break
        rest = self.scan.flush()
        self.text += rest
        self.duration_ms = self._elapsed_ms()
        if rest:
            yield rest

    def _tokens(self) -> Iterator[int]:
        """The answer's tokens without the one that ends it."""
        self._run(self.generator.append_tokens, self.prompt)
        while not self.generator.is_done():
            if self.gone.is_set():
                self.finish_reason = "cancelled"
                return
            self._run(self.generator.generate_next_token)
            token = int(self.generator.get_next_tokens()[0])
            self.token_ids.append(token)
            if self.first_token_ms is None:
                self.first_token_ms = self._elapsed_ms()
            if token in self.ends:
                self.finish_reason = "stop"
                return
            yield token

    def _run(self, step: Callable[..., None], *values: object) -> None:
        try:
            step(*values)
        except RuntimeError as error:
            raise Unavailable(
                f"The model failed while it answered: {_first_line(error)}", code="model_failed"
            ) from error

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._began_s) * 1000


def _search(sampling: Sampling, defaults: dict[str, Any]) -> dict[str, Any]:
    """genai's search options; what is left out stays as the export's settings say."""
    temperature = sampling.temperature
    if temperature is None:
        temperature = float(defaults.get("temperature", 1.0)) if defaults.get("do_sample") else 0.0
    if temperature < 1e-5:
        return {"do_sample": False}
    options: dict[str, Any] = {"do_sample": True, "temperature": temperature}
    if sampling.top_p is not None:
        options["top_p"] = sampling.top_p
    if sampling.top_k is not None:
        options["top_k"] = sampling.top_k
    # Without a seed of its own genai repeats itself; with one beyond 31 bits it refuses.
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
    return {**options, "random_seed": seed % (1 << 31)}


def _first_line(error: Exception) -> str:
    """An upstream message, short enough for one line."""
    text = str(error).strip().splitlines()
    return (text[0][:300] if text else type(error).__name__).rstrip(".") + "."
