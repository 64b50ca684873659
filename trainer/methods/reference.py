"""The reference's log-probabilities: once for each distinct answer of a training, not per visit.

Must not know: which method needs them, where an adapter starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import trl.trainer.utils

from trainer.methods.method import Row
from trainer.methods.parts import divide
from trainer.model.memory import is_out_of_memory
from trainer.model.threads import Threads

Answer = tuple[tuple[int, ...], tuple[int, ...]]
"""The ids of a prompt and of its completion."""

_NO_LOSS = -100


@contextmanager
def completions_only() -> Iterator[None]:
    """TRL's fused head passes over the positions that have no loss, the prompts', on CPUs too.

    trl 1.16 does so where it has Triton alone, because of devices that compile for each shape.
    Can go when `add_fused_lm_head` does it on CPUs. Source: trl.trainer.utils, `compact`.
    """
    utils: Any = trl.trainer.utils
    before = utils._use_triton
    utils._use_triton = lambda device: device.type == "cpu" or before(device)
    try:
        yield
    finally:
        utils._use_triton = before


def with_reference(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    model: Any,
    pad: int,
    tokens_at_once: int,
    threads: Threads,
) -> list[Row]:
    """The rows with the reference's log-probability of each answer, in nats.

    `columns` names the column to fill for each column of completions. `model` is the reference,
    with TRL's fused head; at most `tokens_at_once` go through it at a time.
    """
    distinct = {_answer(row, column) for row in rows for column in columns.values()}
    known = _logprobs(sorted(distinct), model, pad, tokens_at_once, threads)
    return [
        {**row, **{name: known[_answer(row, column)] for name, column in columns.items()}}
        for row in rows
    ]


def _answer(row: Row, column: str) -> Answer:
    return tuple(row["prompt_ids"]), tuple(row[column])


def _logprobs(
    answers: Sequence[Answer], model: Any, pad: int, tokens_at_once: int, threads: Threads
) -> dict[Answer, float]:
    found: dict[Answer, float] = {}
    waiting = divide([len(head) + len(tail) for head, tail in answers], tokens_at_once)
    while waiting:
        threads.adapt()
        part = [answers[row] for row in waiting[0]]
        values = _batch(part, model, pad)
        if values is None and len(part) == 1:
            raise MemoryError
        if values is None:
            half = len(part) // 2
            waiting[:1] = [waiting[0][:half], waiting[0][half:]]
            continue
        found |= zip(part, values, strict=True)
        waiting = waiting[1:]
    return found


def _batch(answers: Sequence[Answer], model: Any, pad: int) -> list[float] | None:
    """Their log-probabilities; None where memory is too little for so many."""
    width = max(len(head) + len(tail) for head, tail in answers)
    ids = torch.full((len(answers), width), pad)
    labels = torch.full((len(answers), width), _NO_LOSS)
    attention = torch.zeros((len(answers), width), dtype=torch.long)
    for at, (head, tail) in enumerate(answers):
        end = len(head) + len(tail)
        ids[at, :end] = torch.tensor(head + tail)
        labels[at, len(head) : end] = torch.tensor(tail)
        attention[at, :end] = 1
    on = model.device
    try:
        with torch.no_grad():
            output = model(
                input_ids=ids.to(on),
                attention_mask=attention.to(on),
                labels=labels.to(on),
                use_cache=False,
                fused_lm_head=True,
            )
            values: list[float] = output.log_probs.sum(-1).tolist()
            return values
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if on.type == "cuda":
        torch.cuda.empty_cache()
    return None
