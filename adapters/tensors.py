"""Safetensors files read without any tensor library: headers, shapes, and a check for NaN and
infinity on the raw bits. Nothing here can execute what a file contains.

Source: the safetensors format, version 0.8 (8-byte little-endian header length, JSON header,
data).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import Invalid
from core.strict_json import parse_object

_MAX_HEADER_BYTES = 10_000_000

# dtype -> (bits of one element as numpy sees them, exponent mask): all exponent bits set means
# infinity or NaN in each of these formats.
_FLOATS: Mapping[str, tuple[np.dtype[Any], int]] = {
    "F32": (np.dtype("<u4"), 0x7F800000),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: dtype name, shape, and its byte range within the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Names and shapes in a safetensors file.

    Raises Invalid if it is not one: pickled weights, a truncated file, overlapping or
    out-of-range tensors, bytes that belong to no tensor.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(_MAX_HEADER_BYTES, size - 8):
            raise Invalid(
                f"{path.name} is not a safetensors file (or is cut off). Save the adapter with "
                "`model.save_pretrained(dir, safe_serialization=True)`; pickled .bin or .pt "
                "weights are never accepted.",
                param="file",
            )
        raw = file.read(length)
    try:
        header = parse_object(raw)
        header.pop("__metadata__", None)
        entries = {name: _entry(given, 8 + length) for name, given in header.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{path.name} has a damaged safetensors header.", param="file") from error
    position = 8 + length
    for entry in sorted(entries.values(), key=lambda e: e.start):
        if entry.start != position or entry.stop < entry.start:
            raise Invalid(f"{path.name} is cut off or its tensors overlap.", param="file")
        position = entry.stop
    if position != size:
        raise Invalid(
            f"{path.name} is cut off, or something follows its last tensor.", param="file"
        )
    return entries


def _entry(given: Any, begin: int) -> TensorEntry:
    dtype, shape, (start, stop) = given["dtype"], given["shape"], given["data_offsets"]
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise TypeError("dtype is a string, shape a list")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, start, stop)):
        raise TypeError("sizes are whole numbers")
    return TensorEntry(dtype, tuple(shape), begin + start, begin + stop)


def require_finite(path: Path, entries: dict[str, TensorEntry]) -> None:
    """Raises Invalid naming the first tensor with NaN or infinity, or of a strange dtype."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    for name, entry in entries.items():
        if entry.dtype not in _FLOATS:
            raise Invalid(
                f"Tensor '{name[:200]}' has dtype {entry.dtype[:20]}; adapters must be F32, F16 "
                "or BF16.",
                param="file",
            )
        bits, mask = _FLOATS[entry.dtype]
        if entry.stop - entry.start != bits.itemsize * math.prod(entry.shape):
            raise Invalid(f"Tensor '{name[:200]}' is not as long as its shape says.", param="file")
        count = (entry.stop - entry.start) // bits.itemsize
        values = np.ndarray((count,), dtype=bits, buffer=data, offset=entry.start)
        if bool(np.any((values & mask) == mask)):
            raise Invalid(
                f"Tensor '{name[:200]}' contains NaN or infinity; the training run diverged. Train "
                "again with a lower learning rate.",
                param="file",
            )
