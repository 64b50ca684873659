"""The base model's own weights inside an upload, which PEFT writes beside an embedding's update.

Owns whether such a copy is the base's: then it says nothing and is left out. The engine would pass
over another one without a word, and PEFT would not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from adapters.tensors import TensorEntry, numbers, read_header
from adapters.validate import BaseModel, model_folder, weight_of
from core.errors import Invalid

# Of what was rounded to bfloat16, the coarsest type an adapter may have, and to half precision.
_RELATIVE, _ABSOLUTE = 2.0**-8, 2.0**-24


def require_base(path: Path, module: str, copy: TensorEntry, base: BaseModel) -> None:
    """Raises Invalid unless the tensor `copy` of the file `path` is the base's weight of `module`.

    Weights of one dtype must be equal, of two dtypes as near as the rounding leaves them.
    """
    own = weight_of(base, module)
    if own is None:
        raise Invalid(
            f"The adapter brings weights of '{module[:200]}', which this server's base model does "
            "not have: it was trained on another base.",
            param="base_model_name_or_path",
        )
    name, shape = own
    if copy.shape != shape:
        raise Invalid(
            f"The adapter brings its own '{module[:200]}' of shape {list(copy.shape)}; the base "
            f"model's is {list(shape)}. Adapters cannot add tokens: serve the enlarged model as "
            "the base, or train without new tokens.",
            param="file",
        )
    file, entry = _stored(base, name)
    exact = entry.dtype == copy.dtype
    pieces = zip_longest(numbers(path, copy), numbers(file, entry))
    if not all(_alike(one, other, exact) for one, other in pieces):
        raise Invalid(
            f"The adapter brings its own trained weights of '{module[:200]}', which the engine "
            "cannot serve. Train without modules_to_save, with LoRA on that module (name it in "
            "target_modules), or save with save_embedding_layers=False if it was not trained.",
            param="file",
        )


def _stored(base: BaseModel, name: str) -> tuple[Path, TensorEntry]:
    for file in _files(base):
        entry = read_header(file).get(f"{name}.weight")
        if entry is not None:
            return file, entry
    raise Invalid(f"The base model has no weights of '{name}' any more.", param="model")


def _files(base: BaseModel) -> Iterator[Path]:
    yield from sorted(model_folder(base.name).glob("*.safetensors"))


def _alike(one: np.ndarray, other: np.ndarray, exact: bool) -> bool:
    if exact:
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE))
