"""What plain text costs the base and its adapters, in nats.

Owns how text without a template is read. Must not know: which text, which cost is too much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from adapters.artifacts.digest import adapter_digest
from feedback.token_ids import Ids
from trainer.model.scoring import logprobs
from trainer.model.warm import WarmModel


def read(model: WarmModel, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text; none where a token is unknown or the context too short."""
    tokenizer, limit = model.tokenizer, model.context_tokens or float("inf")
    found = [list(tokenizer(text)["input_ids"]) for text in texts]
    unknown = tokenizer.unk_token_id
    # The first may be a token that begins every text and is called the unknown one as well.
    return [[] if unknown in ids[1:] or len(ids) > limit else ids for ids in found]


def costs(model: WarmModel, texts: Sequence[Ids], adapter_dir: Path | None) -> list[float]:
    """-log p of each text after its first token, nats; the model remembers the last few calls."""
    adapter = adapter_digest(adapter_dir) if adapter_dir else "base"
    key = hashlib.sha256(repr((adapter, [*map(tuple, texts)])).encode()).hexdigest()

    def score() -> list[float]:
        items = [(ids[:1], ids[1:]) for ids in texts]
        return [-value for value in logprobs(model, items, adapter_dir)]

    return model.remembered(f"costs:{key}", score)
