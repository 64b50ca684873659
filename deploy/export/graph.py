"""Makes the adapters of a built graph exchangeable: LoRA weights become inputs of any rank.

Owns the surgery on the ONNX graph and the names of its inputs. Must not know PEFT, files of
adapters, or how the graph was built. Loads onnx.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from core.errors import Invalid

_WEIGHT = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])\.MatMul\.weight")


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a module's adapter goes: features in and out, and its two inputs' names."""

    in_features: int
    out_features: int
    a: str
    b: str


def graph_module(module: str) -> str:
    """A PyTorch module's name as the builder spells it."""
    return module.replace(".self_attn.", ".attn.")


def lora_nodes(modules: Iterable[str]) -> list[str]:
    """Names of the MatMul nodes the builder makes for adapters of `modules`."""
    stems = ["/" + graph_module(module).replace(".", "/") for module in modules]
    # The builder joins what stands before a layer's number with a dot: /model/layers.0/attn.
    stems = [re.sub(r"/layers/(\d+)/", r"/layers.\1/", stem) for stem in stems]
    return [f"{stem}/lora_{part}/MatMul" for stem in stems for part in "AB"]


def open_slots(path: Path, modules: Iterable[str]) -> None:
    """Turn the adapter weights of every module in `modules` into inputs with a symbolic rank.

    A has shape (in, rank), B (rank, out); the default has rank 0, so that without an adapter the
    graph computes exactly the base model. Rewrites the graph at `path`, not its data file.

    Raises Invalid if a module's weights are not in the graph as two plain matrices.
    """
    model = _load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for module in modules:
        stem = graph_module(module)
        names = [f"{stem}.lora_{part}.MatMul.weight" for part in "AB"]
        if any(name not in weights for name in names):
            raise Invalid(
                f"In the graph of this architecture '{module}' has no adapter weights of its own, "
                "so the layout base+adapters is not possible; export with --layout merged.",
                param="layout",
                code="unsupported_layout",
            )
        a, b = (weights[name] for name in names)
        _to_input(model.graph, a, [a.dims[0], f"{stem}.rank"], [a.dims[0], 0])
        _to_input(model.graph, b, [f"{stem}.rank", b.dims[1]], [0, b.dims[1]])
    # What is known of their shapes names the rank the graph was built with.
    kept = [value for value in model.graph.value_info if "lora_" not in value.name]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    onnx.save(model, str(path))


def read_slots(path: Path) -> dict[str, Slot]:
    """The slots of a graph that `open_slots` made, by the graph's module names.

    Raises Invalid if the file is no ONNX graph.
    """
    dims: dict[str, dict[str, onnx.ValueInfoProto]] = {}
    for value in _load(path).graph.input:
        if match := _WEIGHT.fullmatch(value.name):
            dims.setdefault(match["module"], {})[match["part"]] = value
    return {
        module: Slot(_dim(parts["A"], 0), _dim(parts["B"], 1), parts["A"].name, parts["B"].name)
        for module, parts in dims.items()
        if len(parts) == 2
    }


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise Invalid(
            f"{path} is not a readable ONNX graph ({error}); export it again.",
            param="files",
            code="corrupted_graph",
        ) from error


def _to_input(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, shape: list[int | str], empty: list[int]
) -> None:
    graph.input.append(
        onnx.helper.make_tensor_value_info(tensor.name, onnx.TensorProto.FLOAT, shape)
    )
    default = onnx.TensorProto(name=tensor.name, data_type=onnx.TensorProto.FLOAT, dims=empty)
    default.raw_data = b""
    tensor.CopyFrom(default)


def _dim(value: onnx.ValueInfoProto, axis: int) -> int:
    return int(value.type.tensor_type.shape.dim[axis].dim_value)
