"""The process that tries grammars: `python -m server.vllm.grammars.host`.

It imports xgrammar once and forks for each grammar; a fork whose time is up, or whose order is
taken back, is killed. On stdin a JSON line per order, the first one the setup; on stdout one per
verdict. It ends when stdin does.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from core.child_process import dying_with_parent

_MEMORY_BYTES = 1 << 30  # of a fork, beyond what it has from here


class Host:
    """Forks under way, by the number of their order. `unread`: of stdin."""

    def __init__(self, tried: Callable[[str, str], Any], limit_s: float, unread: bytes) -> None:
        self._tried = tried
        self._limit_s = limit_s
        self._forks: dict[int, tuple[int, int, float]] = {}  # pid, pipe, when its time is up
        self._watch = selectors.DefaultSelector()
        self._unread = unread

    def run(self) -> None:
        """Carry out orders until there are no more to come."""
        self._watch.register(0, selectors.EVENT_READ, None)
        self._take(b"")
        while True:
            ends = min((until for _, _, until in self._forks.values()), default=None)
            for key, _ in self._watch.select(None if ends is None else max(0, ends - monotonic())):
                if key.data is not None:
                    self._finish(key.data)
                elif not self._read():
                    return
            for number in [n for n, fork in self._forks.items() if fork[2] <= monotonic()]:
                self._end(number)
                say(id=number, fault="it takes too long to compile", too_complex=True)

    def _read(self) -> bool:
        chunk = os.read(0, 1 << 20)
        self._take(chunk)
        return bool(chunk)

    def _take(self, chunk: bytes) -> None:
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "cancel" in order:
                if order["cancel"] in self._forks:
                    self._end(order["cancel"])
            else:
                self._begin(order)

    def _begin(self, order: dict[str, Any]) -> None:
        pipe, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            dying_with_parent(signal.SIGKILL)()
            _carry_out(theirs, self._tried, order)
        os.close(theirs)
        self._forks[order["id"]] = (pid, pipe, monotonic() + self._limit_s)
        self._watch.register(pipe, selectors.EVENT_READ, order["id"])

    def _finish(self, number: int) -> None:
        told = b"".join(iter(partial(os.read, self._forks[number][1], 1 << 16), b""))
        self._end(number)
        if told:
            say(id=number, **json.loads(told))
        else:
            say(id=number, fault="it cannot be compiled: the compiler fails over it")

    def _end(self, number: int) -> None:
        pid, pipe, _ = self._forks.pop(number)
        self._watch.unregister(pipe)
        os.close(pipe)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _carry_out(pipe: int, tried: Callable[[str, str], Any], order: dict[str, Any]) -> None:
    """In the fork: one verdict, in one write. Does not return."""
    from server.vllm.grammars.trial import Fault

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # warnings about what tenants send
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY_BYTES,) * 2)
        found = tried(order["kind"], order["text"])
        told: dict[str, Any] = {"size_bytes": found.size_bytes, "faults": dict(found.faults)}
    except Fault as fault:
        told = {"fault": str(fault), "too_complex": fault.too_complex}
    except MemoryError:
        told = {"fault": "it takes too much memory", "too_complex": True}
    os.write(pipe, json.dumps(told).encode())
    os._exit(0)


def say(**words: Any) -> None:
    """One line to whoever started this process."""
    os.write(1, json.dumps(words).encode() + b"\n")


def main() -> None:
    """Read the setup, import, say so, carry out orders."""
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends with the server, not before
        signal.signal(number, signal.SIG_IGN)
    unread = b""
    while b"\n" not in unread:
        chunk = os.read(0, 1 << 20)
        if not chunk:
            return
        unread += chunk
    line, _, rest = unread.partition(b"\n")
    setup = json.loads(line)

    import xgrammar as xgr

    from server.vllm.grammars.tools import try_tools
    from server.vllm.grammars.trial import Bench, try_grammar

    bench = Bench(
        xgr.TokenizerInfo.deserialize_json(setup["tokenizer"]),
        setup["tight_json"],
        max(1, min(8, len(os.sched_getaffinity(0)) // 2)),
    )
    say(ready=True)

    def tried(kind: str, text: str) -> Any:
        return try_tools(bench, text) if kind == "tools" else try_grammar(bench, kind, text)

    Host(tried, setup["limit_s"], rest).run()


if __name__ == "__main__":
    main()
