"""Owns packing: conversations laid end to end in rows, each blind to its neighbours.

Must not know: the model, the optimiser.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import torch
from transformers import PreTrainedTokenizerFast

from deploy.demo.pretrain.conversations import Conversation, converse, short_length

ROW_TOKENS = 256
LONG_ROW_TOKENS = 512
LONG_EVERY = 10  # one batch in ten has long rows, for positions a short conversation never reaches


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids`, `positions` [rows, tokens] long; `weights` [rows, tokens] float, the loss weight of
    each token as a target; `blocks` [rows, 1, tokens, tokens] bool, what may be attended to."""

    ids: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    blocks: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: list[int]
    weights: list[float]


def batches(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, batch_tokens: int
) -> Iterator[Batch]:
    """Endless batches of about `batch_tokens` tokens, conversations in no particular order."""
    for step in count(1):
        row_tokens = ROW_TOKENS if step % LONG_EVERY else LONG_ROW_TOKENS
        yield _batch(tokenizer, rng, batch_tokens // row_tokens, row_tokens)


def encode(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> _Encoded:
    """Token ids, and for each the weight of its last character."""
    encoding = tokenizer.backend_tokenizer.encode(conversation.text, add_special_tokens=False)
    # Not its first: the space before a word belongs to the wording, the word to a fact.
    return _Encoded(encoding.ids, [conversation.weights[end - 1] for _, end in encoding.offsets])


def _batch(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, rows: int, row_tokens: int
) -> Batch:
    ids = torch.full((rows, row_tokens), tokenizer.pad_token_id)
    weights = torch.zeros(rows, row_tokens)
    positions = torch.zeros(rows, row_tokens, dtype=torch.long)
    document = torch.full((rows, row_tokens), -1)
    turns = 8 if row_tokens == LONG_ROW_TOKENS else 1
    encoded = _draw(tokenizer, rng, row_tokens, turns)
    for row in range(rows):
        used = number = 0
        while used + len(encoded.ids) <= row_tokens:
            span = slice(used, used + len(encoded.ids))
            ids[row, span] = torch.tensor(encoded.ids)
            weights[row, span] = torch.tensor(encoded.weights)
            positions[row, span] = torch.arange(len(encoded.ids))
            document[row, span] = number
            used, number = span.stop, number + 1
            # What does not fit opens the next row: dropping it would favour short conversations.
            encoded = _draw(tokenizer, rng, row_tokens, 1)
        if turns > 1:
            encoded = _draw(tokenizer, rng, row_tokens, turns)
    same = document[:, :, None] == document[:, None, :]
    causal = torch.ones(row_tokens, row_tokens, dtype=torch.bool).tril()
    return Batch(ids, positions, weights, (same & causal)[:, None])


def _draw(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, row_tokens: int, turns: int
) -> _Encoded:
    while True:
        length = turns if turns > 1 else short_length(rng)
        encoded = encode(tokenizer, converse(rng, length))
        if len(encoded.ids) <= row_tokens:
            return encoded
