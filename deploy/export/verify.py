"""Holds an exported model against the reference, with the runtime that devices run.

Owns how the figures of a `Verification` are taken. Must not know torch, PEFT, or how the export
was made. Loads onnxruntime-genai.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime_genai as og

from core.errors import Invalid
from deploy.edge.manifest import Verification
from deploy.export.thresholds import Thresholds, as_figures, failures

if TYPE_CHECKING:
    from deploy.export.reference import Expected

_TOP = 5
_NAME = "adapter"


class Runtime:
    """An exported model in memory, with at most one adapter."""

    def __init__(self, model: Path, adapter: Path | None = None) -> None:
        """Raises Invalid when the graph or the adapter file does not load."""
        try:
            self._model = og.Model(str(model))
            self._adapters = None
            if adapter is not None:
                self._adapters = og.Adapters(self._model)
                self._adapters.load(str(adapter), _NAME)
        except (RuntimeError, ValueError, OSError) as error:
            raise Invalid(
                f"The exported model in {model} does not load: {str(error)[:300]}",
                param="files",
                code="corrupted_graph",
            ) from error

    def logits(self, ids: Sequence[int], last: int) -> np.ndarray:
        """Logits (last, vocabulary) of the `last` positions of `ids`, in one pass."""
        generator = self._generator(len(ids) + 1)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        generator.get_logits()
        found: np.ndarray = generator.get_output("logits")[0, -last:]
        return found.astype(np.float32)

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` likeliest next tokens one after the other, past any end."""
        generator = self._generator(len(ids) + count + 1)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        tokens: list[int] = []
        while True:
            tokens.append(int(generator.get_logits().reshape(-1).argmax()))
            if len(tokens) == count:
                return tokens
            generator.append_tokens(np.array(tokens[-1:], dtype=np.int32))

    def _generator(self, max_length: int) -> Any:
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=max_length, do_sample=False)
        generator = og.Generator(self._model, params)
        if self._adapters is not None:
            generator.set_active_adapter(self._adapters, _NAME)
        return generator


def compare(
    runtime: Runtime,
    reference: Sequence[Expected],
    thresholds: Thresholds,
    prompt_source: str,
    on_prompt: Callable[[int], None] = lambda _: None,
) -> Verification:
    """The export's figures; `on_prompt` is called with the number of prompts done.

    Raises Invalid when the runtime fails on the graph.
    """
    agreed = overlap = 0.0
    nll_source = nll_export = largest = 0.0
    tokens = equal = 0
    for number, expected in enumerate(reference):
        try:
            logits = runtime.logits(
                [*expected.prompt, *expected.sampled[:-1]], len(expected.sampled)
            )
            greedy = runtime.greedy(expected.prompt, len(expected.greedy))
        except (RuntimeError, ValueError) as error:
            raise Invalid(
                f"The exported model fails when it runs: {str(error)[:300]}",
                param="model",
                code="export_failed",
            ) from error
        positions = np.arange(len(expected.sampled))
        best = np.argpartition(-logits, _TOP, axis=-1)[:, :_TOP]
        agreed += float((logits.argmax(-1) == expected.likely[:, 0]).sum())
        overlap += float((best[:, :, None] == expected.likely[:, None, :_TOP]).sum()) / _TOP
        top = logits.max(-1)
        spread = np.log(np.exp((logits - top[:, None]).astype(np.float64)).sum(-1))
        drawn = logits[positions, np.array(expected.sampled)]
        nll_export += float((spread - (drawn - top)).sum())
        nll_source -= float(expected.logprobs.sum())
        moved = np.take_along_axis(logits, expected.likely.astype(np.int64), -1) - expected.logits
        largest = max(largest, float(np.abs(moved).max()))
        tokens += len(expected.sampled)
        equal += tuple(greedy) == expected.greedy
        on_prompt(number + 1)
    perplexities = [math.exp(min(nll / tokens, 700.0)) for nll in (nll_source, nll_export)]
    found = Verification(
        prompts=len(reference),
        prompt_source=prompt_source,
        tokens=tokens,
        argmax_agreement=agreed / tokens,
        top5_overlap=overlap / tokens,
        perplexity_source=perplexities[0],
        perplexity_export=perplexities[1],
        perplexity_difference=perplexities[1] / perplexities[0] - 1.0,
        greedy_equal=equal / len(reference),
        max_logit_difference=largest,
        thresholds=as_figures(thresholds),
        passed=False,
    )
    return replace(found, passed=not failures(found, thresholds))


def require_passed(found: Verification, thresholds: Thresholds, what: str, hint: str) -> None:
    """Raise Invalid (code `export_not_equal`) with the numbers and `hint` unless every limit is
    kept."""
    if missed := failures(found, thresholds):
        raise Invalid(
            f"The export of {what} is not equal to its source: {', '.join(missed)}, over "
            f"{found.tokens:,} tokens of {found.prompts} prompts. Nothing was published. {hint}",
            code="export_not_equal",
        )
