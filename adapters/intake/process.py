"""The process of one upload: makes it plain, checks it, and says what came of it.

Owns both ends' words: the order as JSON on stdin, the outcome as JSON on stdout. What a stranger's
files make it do, endlessly or with too much memory, ends with it: whoever waits kills it. Loads
neither torch nor a web framework, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters.types import ArtifactInfo
from adapters.validate import BaseModel
from core import errors
from core.child_process import dying_with_parent
from core.errors import AttuneError, Invalid

CHILD = (sys.executable, "-P", "-m", "adapters.intake.process")
_NICE = 10
_MOST_MEMORY_BYTES = 2 << 30
_DEAD = (
    "The adapter could not be checked: its files need more memory or time than any adapter's do."
)


def order_of(given: Path, out: Path, base: BaseModel, max_rank: int) -> bytes:
    """What stdin gets: see `adapters.intake.plain.make_plain`."""
    shapes = {module: list(shape) for module, shape in base.shapes.items()}
    order = {"given": str(given), "out": str(out), "max_rank": max_rank}
    return json.dumps({**order, "base": {"name": base.name, "shapes": shapes}}).encode()


def outcome_of(told: bytes) -> ArtifactInfo:
    """What stdout had to say. Raises what `make_plain` raised, Invalid if the process died."""
    try:
        outcome = json.loads(told)
    except ValueError as error:
        raise Invalid(_DEAD, param="file") from error
    if "error" in outcome:
        raise _error(**outcome["error"])
    info = outcome["info"]
    return ArtifactInfo(**{**info, "target_modules": tuple(info["target_modules"])})


def _error(kind: str, message: str, param: str | None, code: str) -> AttuneError:
    kinds = {name: found for name, found in vars(errors).items() if isinstance(found, type)}
    found: type[AttuneError] = kinds[kind]
    return found(message, param=param, code=code)


def main() -> None:
    """Carry out what stdin asks for."""
    dying_with_parent(signal.SIGKILL)()
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    order = json.loads(sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(_carried_out(order)))


def _carried_out(order: Mapping[str, Any]) -> dict[str, Any]:
    from adapters.intake.plain import make_plain

    shapes = {module: tuple(shape) for module, shape in order["base"]["shapes"].items()}
    base = BaseModel(order["base"]["name"], shapes)
    try:
        info = make_plain(
            Path(order["given"]), Path(order["out"]), base, max_rank=order["max_rank"]
        )
    except AttuneError as error:
        told = {"kind": type(error).__name__, "message": error.message}
        return {"error": {**told, "param": error.param, "code": error.code}}
    return {"info": asdict(info)}


if __name__ == "__main__":
    main()
