"""Runs onnxruntime-genai's model builder on a Hugging Face folder: graph, tokenizer, settings.

Owns the builder's options per precision and the reading of its complaints. Must not know what is
done with the graph. Needs onnxruntime-genai, onnx and onnx-ir in the environment; importing this
loads none of them.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from core.errors import Invalid, Unavailable
from deploy.edge.manifest import Precision

PACKAGES: Final = ("onnxruntime_genai", "onnxruntime", "onnx", "onnx_ir")
_MATCHING: Final = (
    "Llama, Qwen2, Qwen3, Mistral, Phi3, SmolLM3, Granite and LFM2 models are known to match"
)

RECIPES: Final[Mapping[Precision, Mapping[str, str]]] = {
    "fp32": {},
    "int8": {},
    "int4": {
        "algo_config": "k_quant",
        "matmul_mixed_precision": "last_matmul:int8,mixed_layers:int8",
    },
}
"""The builder's extra options per precision; they go into the manifest."""

_FAILS_WITH = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the builder raises for a model it stumbles over: it checks little."""


def require_packages() -> None:
    """Raise Unavailable, naming what to install, unless the builder can run here."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise Unavailable(
            f"Exports need {', '.join(name.replace('_', '-') for name in missing)}, which this "
            "environment lacks: install Attune with the extra [server].",
            code="export_unavailable",
        )


def build(
    model: Path, out: Path, precision: Precision, options: Mapping[str, str], *, architecture: str
) -> None:
    """Write the graph, genai_config.json, tokenizer and template of the model in `model` to `out`.

    Raises Invalid for an architecture it does not know (code `unsupported_architecture`) or a
    model it fails on, and OSError as the disk does. Whether a known architecture is built rightly
    is for the verification to say.
    """
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    where = ("", str(model), str(out), precision, "cpu", str(out.parent.parent / "cache"))
    given = [f"{name}={value}" for name, value in options.items()]
    try:
        with redirect_stdout(sys.stderr):
            create_model(*where, **parse_extra_options(*where, given))
    except NotImplementedError as error:
        raise Invalid(
            f"Models of the architecture {architecture} cannot be exported: the model builder "
            f"does not know it. {_MATCHING}.",
            param="model",
            code="unsupported_architecture",
        ) from error
    except OSError as error:
        if "requested and" in str(error):  # numpy tells of a short write in words only
            raise OSError(errno.ENOSPC, str(error)) from error
        if error.errno is None:  # transformers, of a file that the model lacks
            raise _failed(architecture, error) from error
        raise
    except _FAILS_WITH as error:
        raise _failed(architecture, error) from error


def _failed(architecture: str, error: Exception) -> Invalid:
    return Invalid(
        f"The model builder failed on this {architecture}: {str(error)[-300:]}",
        code="export_failed",
    )
