"""How equal an export must be to its source before it counts, per precision.

Owns the limits and the comparison with them. Must not know how the figures are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from deploy.edge.manifest import Precision, Verification


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits for the figures of the same names in `Verification`.

    argmax_agreement      least share of positions whose likeliest token is the source's
    top5_overlap          least mean share of the source's five likeliest tokens among its own
    perplexity_difference most relative change of the perplexity of the source's own answers,
                          either way
    greedy_equal          least share of prompts answered token for token alike
    max_logit_difference  most any of the source's likely logits may move

    None asks nothing: the figure is only reported.
    """

    argmax_agreement: float
    top5_overlap: float
    perplexity_difference: float
    greedy_equal: float | None = None
    max_logit_difference: float | None = None


# fp32 does the same arithmetic in another order: only near-ties may fall differently, and one
# such tie in 50 greedy answers is let pass. Quantization moves every logit a little; what it may
# cost is bounded by the positions that change their first choice. Measured figures: docs/edge.md.
DEFAULTS: Final[Mapping[Precision, Thresholds]] = {
    "fp32": Thresholds(0.999, 0.999, 0.001, greedy_equal=0.98, max_logit_difference=0.05),
    "int8": Thresholds(0.97, 0.95, 0.02),
    "int4": Thresholds(0.95, 0.85, 0.10),
}

_AT_LEAST = ("argmax_agreement", "top5_overlap", "greedy_equal")


def as_figures(thresholds: Thresholds) -> dict[str, float]:
    """The limits there are, by name, as the manifest keeps them."""
    return {name: value for name, value in asdict(thresholds).items() if value is not None}


def failures(found: Verification, limits: Thresholds) -> list[str]:
    """What misses its limit, as `name value (limit)`; empty if the export passes.

    A figure that is no number misses.
    """
    missed = []
    for name, limit in as_figures(limits).items():
        value = getattr(found, name)
        at_least = name in _AT_LEAST
        passes = value >= limit if at_least else abs(value) <= limit
        if not passes:
            word = "at least" if at_least else "at most"
            missed.append(f"{name} {value:.4g} ({word} {limit:g})")
    return missed
