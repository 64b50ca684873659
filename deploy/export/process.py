"""The process an export is built in, from both of its ends: an order goes in, words come out.

Owns the protocol: the order as JSON on stdin; on stdout a JSON line per word of progress and a
last one with the outcome. `python -m deploy.export.process` is the child: it gives way to serving
and ends when whoever started it is gone. Must not know how an export is built.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from core import errors
from core.child_process import dying_with_parent
from core.errors import AttuneError, Unavailable
from core.logs import keep_logs_clean
from deploy.export.builder import require_packages
from deploy.export.request import ORDERS, Order

CHILD = (sys.executable, "-m", "deploy.export.process")
_NICE = 10
_TICK_S = 0.5
_LAST_WORDS_S = 10.0
_LAST_LINES = 3


def run_order(
    command: Sequence[str],
    order: Order,
    log: Path,
    report: Callable[[str, float], None],
    *,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Have `order` carried out by `command`; returns when it is done.

    `report(stage, share)` is called with every word of progress, and with the last one again
    twice a second: what it raises ends the process and is raised. The process's own AttuneErrors
    are raised as such; Unavailable if it dies.
    """
    with log.open("wb") as stderr, tempfile.TemporaryFile() as stdin:
        stdin.write(ORDERS.dump_json(order))
        stdin.seek(0)
        process = subprocess.Popen(
            list(command),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,  # so that a line is either not there or read
            # Never the network: the model is a folder.
            env={**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})},
            start_new_session=True,
            preexec_fn=dying_with_parent(signal.SIGKILL),
        )
    with process:
        try:
            outcome = _follow(process, report)
        finally:
            process.kill()
            process.wait()
    if outcome.get("done") is True:
        return
    if "error" in outcome:
        raise _error(outcome)
    last = " ".join(log.read_text(errors="replace").split("\n")[-1 - _LAST_LINES :])[-500:].strip()
    why = f"It said last: {last}" if last else "It said nothing; was it killed for its memory?"
    raise Unavailable(
        f"The export's process ended before it was done (status {process.returncode}). {why}"
    )


def _follow(
    process: subprocess.Popen[bytes], report: Callable[[str, float], None]
) -> dict[str, Any]:
    """The outcome the child told, or {} if it ended without one."""
    assert process.stdout is not None
    stage, share = "Starting", 0.0
    while True:
        report(stage, share)
        if not select.select([process.stdout], [], [], _TICK_S)[0]:
            continue
        line = process.stdout.readline()
        if not line:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WORDS_S)  # for its own exit status and the end of its log
            return {}
        told = json.loads(line)
        if "stage" not in told:
            return dict(told)
        stage, share = str(told["stage"]), float(told["share"])


def _error(outcome: Mapping[str, Any]) -> AttuneError:
    kind = getattr(errors, str(outcome["kind"]), Unavailable)
    if not (isinstance(kind, type) and issubclass(kind, AttuneError)):
        kind = Unavailable
    return kind(str(outcome["error"]), code=str(outcome["code"]))


def main() -> None:
    """Carry out what stdin asks for. The outcome is in the last line, not in the exit status."""
    os.nice(_NICE)
    keep_logs_clean()
    # A service manager stops all processes at once: ended by that, the export would count as
    # failed, where ended with its trainer it is begun again.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Libraries print: stdout is kept for the protocol alone.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**words: Any) -> None:
        print(json.dumps(words), file=out, flush=True)

    def report(stage: str, share: float) -> None:
        say(stage=stage, share=share)

    order = ORDERS.validate_json(sys.stdin.buffer.read())
    try:
        require_packages()
        from deploy.export.exporter import export_adapter, export_model

        if order.base is None:
            export_model(order.job, order.out, report)
        else:
            export_adapter(order.job, order.base, order.out, report)
    except AttuneError as error:
        say(error=error.message, kind=type(error).__name__, code=error.code)
    else:
        say(done=True)


if __name__ == "__main__":
    main()
