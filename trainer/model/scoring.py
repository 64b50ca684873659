"""How likely answers are: log-probabilities and divergences under the base and its adapters.

Owns the arithmetic on logits. Speaks token ids alone. Must not know: texts, how answers are
sampled, what a score is good for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from feedback.token_ids import Ids
from trainer.model.warm import WarmModel

_LOGITS_AT_ONCE = 2**26
"""Most float32 logits held at a time while scoring: 256 MiB."""


Item = tuple[Ids, Ids]
"""The ids of a prompt and of an answer to it."""


def logprobs(model: WarmModel, items: Sequence[Item], adapter_dir: Path | None) -> list[float]:
    """log p(answer | prompt) per item, in nats, summed over the answer's tokens."""

    def picked(adapted: Any, ids: dict[str, Any]) -> Any:
        logprobs = _log_softmax(adapted, ids)
        return logprobs.gather(-1, ids["input_ids"][:, 1:, None]).squeeze(-1)

    return _summed(model, items, adapter_dir, picked)


def kl_to_base(model: WarmModel, items: Sequence[Item], adapter_dir: Path) -> list[float]:
    """KL(adapter || base) over the whole vocabulary, summed over the answer's tokens, nats.

    The answers are what the adapter sampled at temperature 1; the mean over many is the sequence
    KL of the two policies.
    """

    def divergence(adapted: Any, ids: dict[str, Any]) -> Any:
        own = _log_softmax(adapted, ids)
        with adapted.disable_adapter():
            plain = _log_softmax(adapted, ids)
        return (own.exp() * (own - plain)).sum(-1)

    return _summed(model, items, adapter_dir, divergence)


def readable(model: WarmModel, prompt: Ids, answer: Ids) -> bool:
    """Whether there is an answer and it fits the model's context with its prompt."""
    limit = model.context_tokens
    return bool(answer) and (limit is None or len(prompt) + len(answer) <= limit)


def _log_softmax(adapted: Any, ids: dict[str, Any]) -> Any:
    """The log-probabilities [b, t - 1, v] of each next token."""
    return adapted(**ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)


def _summed(
    model: WarmModel,
    items: Sequence[Item],
    adapter_dir: Path | None,
    figure: Callable[[Any, dict[str, Any]], Any],
) -> list[float]:
    """The `figure` [b, t - 1] of every next token, summed over each item's answer.

    In right-padded batches of similar length.
    """
    found = [0.0] * len(items)
    order = sorted(range(len(items)), key=lambda row: -sum(map(len, items[row])))
    with model.adapted(adapter_dir) as adapted:
        while order:
            width = max(2, sum(map(len, items[order[0]])))
            size = max(1, min(64, _LOGITS_AT_ONCE // (width * model.vocabulary)))
            rows, order = order[:size], order[size:]
            ids = torch.full((len(rows), width), model.tokenizer.pad_token_id)
            attention = torch.zeros((len(rows), width), dtype=torch.long)
            answer = torch.zeros((len(rows), width))
            for at, row in enumerate(rows):
                head, tail = items[row]
                ids[at, : len(head) + len(tail)] = torch.tensor([*head, *tail])
                attention[at, : len(head) + len(tail)] = 1
                answer[at, len(head) : len(head) + len(tail)] = 1
            batch = {
                "input_ids": ids.to(model.device),
                "attention_mask": attention.to(model.device),
            }
            mask = answer[:, 1:].to(model.device)
            values = (figure(adapted, batch) * mask).sum(-1).tolist()
            for row, value in zip(rows, values, strict=True):
                found[row] = value
    return found
