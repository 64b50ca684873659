"""Text nobody asked for, in several registers and languages, to be read as well as before.

Owns the passages and which of them a base model can read. Must not know: models, which loss is
too large.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from trainer.judging.bootstrap import mean_interval
from trainer.types import Interval, NeutralText

READABLE_BITS = 2.5
"""Most bits a byte for a passage to count: beyond, a model reads letters, no language.

A model that knows a language needs about one, one that only counts letters more than four.
"""


@cache
def passages() -> tuple[str, ...]:
    """The passages, about 500 characters each."""
    path = Path(__file__).parent / "data" / "neutral.jsonl"
    return tuple(json.loads(line)["text"] for line in path.read_text("utf-8").splitlines())


def is_readable(text: str, nats: float) -> bool:
    """Whether a model that needs `nats` for `text` knows its language."""
    return nats <= READABLE_BITS * math.log(2) * len(text.encode())


def neutral_text(
    candidate: Sequence[float],
    reference: Sequence[float],
    base: Sequence[float],
    tokens: Sequence[int],
    seed: int,
) -> NeutralText | None:
    """Perplexities from what each passage of `tokens` tokens cost each model, in nats.

    None for no passages. The interval resamples passages.
    """
    if not tokens:
        return None
    mean = statistics.fmean(tokens)

    def log_ratio(old: Sequence[float]) -> Interval:
        return mean_interval([(b - a) / mean for a, b in zip(old, candidate, strict=True)], seed)

    found = log_ratio(reference)
    ratio = replace(
        found, mean=math.exp(found.mean), low=math.exp(found.low), high=math.exp(found.high)
    )
    return NeutralText(ratio, math.exp(log_ratio(base).mean), len(tokens))
