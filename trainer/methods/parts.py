"""A step in parts: which rows go together, and a batch of some of its rows.

Must not know: models, methods, memory. A batch is what TRL's collators make: tensors padded on
the right, whose rows are the step's examples, or first one side of every pair and then the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PADDED = ("input_ids", "attention_mask", "completion_mask", "labels")


def divide(lengths: Sequence[int], tokens_at_once: int) -> list[list[int]]:
    """Rows by their `lengths`, in parts that hold at most so many tokens, padding counted.

    Rows of similar length go together; a row that is longer by itself is a part of its own. All
    rows stay as they are where they fit in one part.
    """
    if len(lengths) * max(lengths) <= tokens_at_once:
        return [list(range(len(lengths)))]
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    parts: list[list[int]] = []
    for row in order:
        if parts and (len(parts[-1]) + 1) * lengths[parts[-1][0]] <= tokens_at_once:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def lengths_of(batch: Mapping[str, Any], rows: int, prefix: str = "") -> list[int]:
    """Tokens of each of `rows` examples: of the longer side where each has several."""
    mask = batch[f"{prefix}attention_mask"]
    found: list[int] = mask.sum(-1).view(-1, rows).amax(0).tolist()
    return found


def take(batch: Mapping[str, Any], rows: int, chosen: Sequence[int]) -> dict[str, Any]:
    """The `chosen` of `rows` examples, without the padding that only others need."""
    part = {name: _pick(tensor, rows, chosen) for name, tensor in batch.items()}
    for prefix in ("", "KL_"):
        if f"{prefix}attention_mask" in part:
            width = int(part[f"{prefix}attention_mask"].sum(-1).max())
            for name in (prefix + short for short in _PADDED):
                if name in part:
                    part[name] = part[name][:, :width]
    return part


def _pick(tensor: Any, rows: int, chosen: Sequence[int]) -> Any:
    """Rows of every side: [sides * rows, …] becomes [sides * chosen, …]."""
    return tensor.unflatten(0, (-1, rows))[:, list(chosen)].flatten(0, 1)
