"""Running the export's child process: progress comes out, its errors are raised, a stop ends it.

Owns the process and the other side of `deploy.export.child`'s protocol. Must not know what is
built.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from core import errors
from core.errors import AttuneError, Unavailable

_TICK_S = 0.5
_LAST_WORDS_S = 10.0
_LAST_LINES = 3


def run_child(
    command: Sequence[str],
    asked: Mapping[str, Any],
    log: Path,
    report: Callable[[str, float], None],
    *,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Have `asked` built by `command`; returns when it is there.

    `report(stage, share)` is called with every word of progress, and with the last one again
    twice a second: what it raises ends the process with all its children and is raised. The
    process's own AttuneErrors are raised as such; Unavailable if it dies or the disk is full.
    """
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        outcome = _follow(process, asked, report)
    finally:
        _end(process)
    if outcome.get("done") is True:
        return
    raise _error(outcome, process.returncode, log)


def _follow(
    process: subprocess.Popen[bytes],
    asked: Mapping[str, Any],
    report: Callable[[str, float], None],
) -> dict[str, Any]:
    """The outcome the child told, or {} if it ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    try:
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()  # and left open: the child ends when it closes
    except BrokenPipeError:
        return {}
    stage, share = "Starting", 0.0
    while True:
        report(stage, share)
        try:
            line = lines.get(timeout=_TICK_S)
        except queue.Empty:
            continue
        if not line:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WORDS_S)  # for its own exit status and the end of its log
            return {}
        told = json.loads(line)
        if "stage" not in told:
            return dict(told)
        stage, share = str(told["stage"]), float(told["share"])


def _read(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave neither the process nor any child of its own."""
    try:
        # It leads a session of its own, which its children are in.
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


def _error(outcome: Mapping[str, Any], status: int, log: Path) -> AttuneError:
    if outcome.get("kind") == "OSError":
        if outcome.get("code") in (errno.ENOSPC, errno.EDQUOT):
            return disk_full()
        return Unavailable(f"The export's files cannot be written: {outcome['error']}.")
    if "error" in outcome:
        kind = getattr(errors, str(outcome["kind"]), Unavailable)
        if not (isinstance(kind, type) and issubclass(kind, AttuneError)):
            kind = Unavailable
        return kind(str(outcome["error"]), code=str(outcome["code"]))
    last = " ".join(log.read_text(errors="replace").split("\n")[-1 - _LAST_LINES :])[-500:].strip()
    why = f"It said last: {last}" if last else "It said nothing; was it killed for its memory?"
    return Unavailable(f"The export's process ended before it was done (status {status}). {why}")


def disk_full() -> Unavailable:
    """What to say of a disk without room."""
    return Unavailable(
        "The trainer's disk is full: free some space, then export again.", code="disk_full"
    )
