"""Safetensors files read without any tensor library: headers, shapes, and a check for NaN and
infinity on the raw bits. Nothing here can execute what a file contains.

Source: the safetensors format, version 0.8 (8-byte little-endian header length, JSON header,
data).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import Invalid
from core.strict_json import parse_object

_MAX_HEADER_BYTES = 10_000_000
_PIECE = 1 << 22  # values, or bytes, at a time

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


def read_header(path: Path, *, most_bytes: int = _MAX_HEADER_BYTES) -> dict[str, TensorEntry]:
    """Names and shapes in a safetensors file whose header has at most `most_bytes`.

    Raises Invalid if it is not one: pickled weights, a truncated file, overlapping or
    out-of-range tensors, bytes that belong to no tensor.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(most_bytes, size - 8):
            raise Invalid(
                f"{path.name} is not a safetensors file (or is cut off). Save the adapter with "
                "`model.save_pretrained(dir, safe_serialization=True)`; pickled .bin or .pt "
                "weights are never accepted.",
                param="file",
            )
        raw = file.read(length)
    try:
        header = parse_object(raw)
        _check_metadata(header.pop("__metadata__", {}))
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


def _check_metadata(given: Any) -> None:
    # The library that the engine reads with refuses the file otherwise.
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise TypeError("metadata is an object of texts")


def _entry(given: Any, begin: int) -> TensorEntry:
    dtype, shape, (start, stop) = given["dtype"], given["shape"], given["data_offsets"]
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise TypeError("dtype is a string, shape a list")
    if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, start, stop)):
        raise TypeError("sizes are whole numbers")
    return TensorEntry(dtype, tuple(shape), begin + start, begin + stop)


def require_finite(path: Path, entries: Mapping[str, TensorEntry]) -> None:
    """Raises Invalid naming the first tensor with NaN or infinity, or of a strange dtype."""
    for name, entry in entries.items():
        if entry.dtype not in _FLOATS:
            raise Invalid(
                f"Tensor '{name[:200]}' has dtype {entry.dtype[:20]}; adapters must be F32, F16 "
                "or BF16. Save the model with .float() or .bfloat16() first.",
                param="file",
            )
        _, mask = _FLOATS[entry.dtype]
        if not _is_whole(entry):
            raise Invalid(f"Tensor '{name[:200]}' is not as long as its shape says.", param="file")
        if any(bool(np.any((piece & mask) == mask)) for piece in _pieces(path, entry)):
            raise Invalid(
                f"Tensor '{name[:200]}' contains NaN or infinity; the training run diverged. Train "
                "again with a lower learning rate.",
                param="file",
            )


def numbers(path: Path, entry: TensorEntry) -> Iterator[np.ndarray]:
    """The tensor's values in order, as float32, a few million at a time.

    Raises Invalid for a dtype other than F32, F16 and BF16, and for a tensor of odd length.
    """
    if entry.dtype not in _FLOATS or not _is_whole(entry):
        raise Invalid(
            f"Weights of dtype {entry.dtype[:20]}, or not as long as their shape says, cannot be "
            "compared.",
            param="file",
        )
    for bits in _pieces(path, entry):
        if entry.dtype == "BF16":
            yield (bits.astype(np.uint32) << 16).view(np.float32)
        else:
            yield bits.view(np.float16 if entry.dtype == "F16" else np.float32).astype(np.float32)


def _is_whole(entry: TensorEntry) -> bool:
    size = _FLOATS[entry.dtype][0].itemsize * math.prod(entry.shape)
    return entry.stop - entry.start == size


def _pieces(path: Path, entry: TensorEntry) -> Iterator[np.ndarray]:
    bits = _FLOATS[entry.dtype][0]
    count = (entry.stop - entry.start) // bits.itemsize
    with path.open("rb") as file:
        file.seek(entry.start)
        for begin in range(0, count, _PIECE):
            size = min(_PIECE, count - begin) * bits.itemsize
            yield np.frombuffer(file.read(size), dtype=bits)


def write_tensors(source: Path, tensors: Mapping[str, TensorEntry], out: Path) -> None:
    """Write a safetensors file of tensors of `source`, each under its name in `tensors`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, entry in sorted(tensors.items()):
        size = entry.stop - entry.start
        header[name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": [at, at + size],
        }
        at += size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # the data begin at a multiple of eight
    with source.open("rb") as file, out.open("wb") as target:
        target.write(len(raw).to_bytes(8, "little") + raw)
        for _, entry in sorted(tensors.items()):
            file.seek(entry.start)
            for begin in range(entry.start, entry.stop, _PIECE):
                target.write(file.read(min(_PIECE, entry.stop - begin)))
