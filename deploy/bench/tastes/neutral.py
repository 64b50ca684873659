"""How likely the model finds plain prose that nobody rated, before and after.

Owns the texts. Must not know: tastes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

TEXTS = tuple(
    " ".join(text.split())
    for text in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").split("\n\n")
)
"""Written for this: they teach nothing, and no model was trained on them."""


def perplexity(model: WarmModel, adapter: Path | None) -> float:
    """The perplexity per token of the neutral texts, each read from its second token on."""
    import torch

    total, count = 0.0, 0
    with model.adapted(adapter, exact=True) as adapted:
        for text in TEXTS:
            ids = torch.tensor([model.tokenizer(text)["input_ids"]], device=model.device)
            logprobs = (
                adapted(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            )
            total -= float(logprobs.gather(-1, ids[0, 1:, None]).sum())
            count += ids.shape[1] - 1
    return math.exp(total / count)
