"""The process an export is built in: `python -m deploy.export.child`, one job from stdin.

Owns the line protocol with `deploy.export.job`: the job as one JSON line on stdin, then on stdout
one JSON line per word of progress and a last one with the outcome. Everything else that is printed
goes to stderr. It gives way to serving and ends when whoever started it is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from core.errors import AttuneError

_NICE = 10


def main() -> None:
    """Build what stdin asks for. The outcome is in the last line, not in the exit status."""
    os.nice(_NICE)
    # A service manager stops all processes at once: ended by that, the export would count as
    # failed, where ended with its trainer it is begun again. The builder inherits it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Libraries print: stdout is kept for the protocol alone.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _build(asked, lambda stage, share: _say(out, stage=stage, share=share))
    except AttuneError as error:
        _say(out, error=error.message, kind=type(error).__name__, code=error.code)
    except OSError as error:
        _say(out, error=str(error), kind="OSError", code=error.errno)
    else:
        _say(out, done=True)


def _build(asked: Mapping[str, Any], progress: Callable[[str, float], None]) -> None:
    from deploy.export.exporter import ExportJob, export_adapter, export_model

    job = dict(asked["job"])
    for name in ("model", "adapter_folder"):
        job[name] = None if job[name] is None else Path(job[name])
    job["prompts"] = tuple(tuple(conversation) for conversation in job["prompts"])
    if asked["base"] is None:
        export_model(ExportJob(**job), Path(asked["out"]), progress)
    else:
        export_adapter(ExportJob(**job), Path(asked["base"]), Path(asked["out"]), progress)


def _say(out: TextIO, **what: Any) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


def _end_with_parent() -> None:
    # Killed without a word, the parent leaves nothing behind that goes on writing.
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
