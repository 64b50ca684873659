"""Holds an exported model against the reference, with the runtime that devices run.

Owns how the figures of a `Verification` are taken, and the limits they must keep. Must not know
torch, PEFT, or how the export was made. Loads onnxruntime-genai.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime_genai as og

from core.errors import Invalid
from deploy.edge.manifest import Precision, Verification

if TYPE_CHECKING:
    from deploy.export.reference import Expected

LIMITS: Final[Mapping[Precision, Mapping[str, float]]] = {
    "fp32": {
        "argmax_agreement": 0.999,
        "top5_overlap": 0.999,
        "perplexity_difference": 0.001,
        "greedy_equal": 0.98,
        "max_logit_difference": 0.05,
    },
    "int8": {"argmax_agreement": 0.97, "top5_overlap": 0.95, "perplexity_difference": 0.02},
    "int4": {"argmax_agreement": 0.95, "top5_overlap": 0.85, "perplexity_difference": 0.10},
}
"""How equal an export must be to its source, by the figures' names in `Verification`.

fp32 does the same arithmetic in another order: only near-ties may fall differently, and one such
tie in 50 greedy answers is let pass. Quantization moves every logit a little; what it may cost is
bounded by the positions that change their first choice. Measured figures: docs/edge.md.
"""

_AT_LEAST = ("argmax_agreement", "top5_overlap", "greedy_equal")  # others: at most, either way
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
    limits: Mapping[str, float],
    prompt_source: str,
    on_share: Callable[[float], None] = lambda _: None,
) -> Verification:
    """The export's figures; `on_share` is called with the share of prompts done.

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
        on_share((number + 1) / len(reference))
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
        thresholds=limits,
        passed=False,
    )
    return replace(found, passed=not failures(found))


def failures(found: Verification) -> list[str]:
    """What misses its threshold, as `name value (limit)`; empty if the export passes.

    A figure that is no number misses.
    """
    missed = []
    for name, limit in found.thresholds.items():
        value = getattr(found, name)
        at_least = name in _AT_LEAST
        passes = value >= limit if at_least else abs(value) <= limit
        if not passes:
            word = "at least" if at_least else "at most"
            missed.append(f"{name} {value:.4g} ({word} {limit:g})")
    return missed


def require_passed(found: Verification, what: str, hint: str) -> None:
    """Raise Invalid (code `export_not_equal`) with the numbers and `hint` unless every limit is
    kept."""
    if missed := failures(found):
        raise Invalid(
            f"The export of {what} is not equal to its source: {', '.join(missed)}, over "
            f"{found.tokens:,} tokens of {found.prompts} prompts. Nothing was published. {hint}",
            code="export_not_equal",
        )
