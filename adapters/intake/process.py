"""The process of one upload: makes it plain, checks it, and says what came of it.

Owns both ends' words: on stdin a line of JSON with the order and one with the base, on stdout the
outcome as JSON. What a stranger's files make it do, endlessly or with too much memory, ends with
it: whoever waits kills it. Loads neither torch nor a web framework, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters.types import ArtifactInfo
from adapters.validate import BaseModel
from core import errors
from core.child_process import dying_with_parent
from core.errors import AttuneError, Invalid
from core.files import disk_trouble
from core.ids import Digest

CHILD = (sys.executable, "-P", "-m", "adapters.intake.process")
_NICE = 10
_MOST_MEMORY_BYTES = 2 << 30
_DEAD = (
    "The adapter could not be checked: its files need more memory or time than any adapter's do."
)


def base_line(base: BaseModel) -> bytes:
    """The base model for stdin; made once, for it may have many modules."""
    return json.dumps([base.name, dict(base.shapes), base.digest]).encode()


def order_line(given: Path, out: Path, max_rank: int) -> bytes:
    """The order for stdin: see `adapters.intake.plain.make_plain`."""
    return json.dumps([str(given), str(out), max_rank]).encode() + b"\n"


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
    order, base = map(json.loads, sys.stdin.buffer.read().splitlines())
    sys.stdout.write(json.dumps(_carried_out(*order, *base)))


def _carried_out(
    given: str,
    out: str,
    max_rank: int,
    name: str,
    shapes: Mapping[str, Sequence[int]],
    digest: Digest | None,
) -> dict[str, Any]:
    from adapters.intake.plain import make_plain

    base = BaseModel(name, {module: tuple(shape) for module, shape in shapes.items()}, digest)
    try:
        with disk_trouble("the artifact store", "Then upload again."):
            info = make_plain(Path(given), Path(out), base, max_rank=max_rank)
    except AttuneError as error:
        told = {"kind": type(error).__name__, "message": error.message}
        return {"error": {**told, "param": error.param, "code": error.code}}
    return {"info": asdict(info)}


if __name__ == "__main__":
    main()
