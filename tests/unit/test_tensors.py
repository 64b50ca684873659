"""Safetensors files made by hand, byte for byte: what is read, and what is refused."""

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.tensors import TensorEntry, numbers, read_header, require_finite, write_tensors
from core.errors import Invalid


def written(folder: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file of this header (text as it is, else as JSON) and these data."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = folder / "x.safetensors"
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def tensor(shape: Any, start: Any, stop: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_names_shapes_and_places_are_read_and_the_metadata_left_out(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": tensor([2], 8, 16),
        "a": tensor([1, 2], 0, 8),
    }
    path = written(tmp_path, header, b"\0" * 16)
    begin = path.stat().st_size - 16
    assert read_header(path) == {
        "b": TensorEntry("F32", (2,), begin + 8, begin + 16),
        "a": TensorEntry("F32", (1, 2), begin, begin + 8),
    }


def test_it_reads_what_the_library_writes(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.ones((3, 5), np.float16), "y": np.ones((2, 2), np.float32)}, tmp_path / "f")
    entries = read_header(tmp_path / "f")
    assert {name: (e.dtype, e.shape) for name, e in entries.items()} == {
        "x": ("F16", (3, 5)),
        "y": ("F32", (2, 2)),
    }
    require_finite(tmp_path / "f", entries)


@pytest.mark.parametrize(
    "content",
    [b"", b"1234567", b"\0" * 8, b"\xff" * 64, pickle.dumps({"a": [1.0]}), b"PK\3\4" + b"\0" * 99],
)
def test_pickles_zips_and_scraps_are_not_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(Invalid):
        read_header(path)


def test_a_header_that_claims_more_than_there_is_is_never_read(tmp_path: Path) -> None:
    for length in (3, 100, 10_000_001, 2**62):
        with pytest.raises(Invalid):
            read_header(written(tmp_path, "{}", length=length))


@pytest.mark.parametrize(
    "header",
    [
        "[]", "null", "7", '"x"', "{", "{}x", '{"a":1}', '{"a":[]}', '{"a":{}}', "\x00",
        '{"a":{"dtype":"F32","shape":[1]}}',
        '{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":"4","data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":["4"],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[-2,-2],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,Infinity]}}',
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":["0","16"]}}',
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0]}}',
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,32]}}',
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":{"0":0,"1":16}}}',
        '{"a":{"dtype":null,"shape":[4],"data_offsets":[0,16]}}',
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
        '"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}',
        '{"__metadata__":["pt"],"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        '{"__metadata__":{"format":1},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        '{"__metadata__":null,"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        '{"a":' + "[" * 200_000,
        '{"a":' + '{"b":' * 50_000 + "1" + "}" * 50_000 + "}",
        '{"a":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,16]}}',
    ],
)  # fmt: skip
def test_a_strange_header_is_damage_not_an_accident(tmp_path: Path, header: str) -> None:
    with pytest.raises(Invalid):
        read_header(written(tmp_path, header, b"\0" * 16))


@pytest.mark.parametrize(
    ("tensors", "size"),
    [
        ({"a": tensor([4], 0, 16)}, 15),  # cut off
        ({"a": tensor([4], 0, 16)}, 17),  # something follows
        ({"a": tensor([4], 4, 20)}, 20),  # a hole before
        ({"a": tensor([4], 0, 16), "b": tensor([4], 8, 24)}, 24),  # overlapping
        ({"a": tensor([4], 0, 16), "b": tensor([4], 0, 16)}, 16),  # the same bytes twice
        ({"a": tensor([4], 0, 16), "b": tensor([4], 20, 36)}, 36),  # a hole between
        ({"a": tensor([4], 16, 0)}, 16),  # backwards
        ({"a": tensor([4], -16, 0)}, 16),  # into the header
        ({"a": tensor([4], 0, 2**70)}, 16),  # beyond every file
        ({}, 16),  # data of no tensor
    ],
)
def test_tensors_must_lie_end_to_end_and_fill_the_file(
    tmp_path: Path, tensors: dict[str, Any], size: int
) -> None:
    with pytest.raises(Invalid):
        read_header(written(tmp_path, tensors, b"\0" * size))


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("F32", 0x7F800000), ("F32", 0xFF800000), ("F32", 0x7FC00000), ("F32", 0x7F800001),
        ("F16", 0x7C00), ("F16", 0xFC00), ("F16", 0x7E00), ("F16", 0x7C01),
        ("BF16", 0x7F80), ("BF16", 0xFF80), ("BF16", 0x7FC0), ("BF16", 0x7F81),
    ],
)  # fmt: skip
def test_every_kind_of_nan_and_infinity_is_found_in_the_last_place(
    tmp_path: Path, dtype: str, bits: int
) -> None:
    width = 4 if dtype == "F32" else 2
    data = b"\0" * (width * 6) + bits.to_bytes(width, "little")
    path = written(tmp_path, {"w": tensor([7], 0, len(data), dtype)}, data)
    with pytest.raises(Invalid, match="'w' contains NaN"):
        require_finite(path, read_header(path))


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F32", 0x7F7FFFFF), ("F32", 1), ("F16", 0x7BFF), ("F16", 0x8000), ("BF16", 0x7F7F)],
)
def test_the_largest_and_smallest_numbers_are_still_numbers(
    tmp_path: Path, dtype: str, bits: int
) -> None:
    width = 4 if dtype == "F32" else 2
    path = written(tmp_path, {"w": tensor([1, 1], 0, width, dtype)}, bits.to_bytes(width, "little"))
    require_finite(path, read_header(path))


@pytest.mark.parametrize("dtype", ["F64", "I8", "F8_E4M3", "BOOL", "f32", "", "X" * 9])
def test_other_dtypes_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    path = written(tmp_path, {"w": tensor([1], 0, 4, dtype)}, b"\0" * 4)
    with pytest.raises(Invalid, match="F32, F16 or BF16"):
        require_finite(path, read_header(path))


@pytest.mark.parametrize("shape", [[3], [5], [0], [], [2**31, 2**33], [2**40, 2**40], [2**63]])
def test_a_shape_must_account_for_every_byte(tmp_path: Path, shape: list[int]) -> None:
    path = written(tmp_path, {"w": tensor(shape, 0, 16)}, b"\0" * 16)
    with pytest.raises(Invalid):
        require_finite(path, read_header(path))


@given(st.binary(max_size=200), st.integers(0, 220))
def test_no_file_whatsoever_does_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + noise)
    with contextlib.suppress(Invalid):
        require_finite(path, read_header(path))


def test_what_is_written_is_what_was_read_under_other_names(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    given = {"x": np.arange(6, dtype=np.float16).reshape(2, 3), "y": np.ones((1, 2), np.float32)}
    save_file({**given, "z": np.ones(5, np.float32)}, tmp_path / "f")
    entries = read_header(tmp_path / "f")
    write_tensors(tmp_path / "f", {"b": entries["x"], "a": entries["y"]}, tmp_path / "g")
    written = load_file(tmp_path / "g")
    assert written.keys() == {"a", "b"}
    assert np.array_equal(written["b"], given["x"])
    assert written["b"].dtype == np.float16
    assert np.array_equal(written["a"], given["y"])


@pytest.mark.parametrize(
    ("dtype", "data"),
    [("F32", np.float32([1.5, -2, 0]).tobytes()), ("F16", np.float16([1.5, -2, 0]).tobytes()),
     ("BF16", np.uint16([0x3FC0, 0xC000, 0]).tobytes())],
)  # fmt: skip
def test_numbers_are_the_same_in_every_dtype(tmp_path: Path, dtype: str, data: bytes) -> None:
    path = written(tmp_path, {"w": tensor([3], 0, len(data), dtype)}, data)
    assert np.concatenate(list(numbers(path, read_header(path)["w"]))).tolist() == [1.5, -2, 0]
