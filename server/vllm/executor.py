"""The model in the engine's own process: vLLM 0.32's executor for small CPU machines.

vLLM's CPU platform always puts the model into a process of its own and lets the engine spin on a
core while it waits for each step. Where there are only a few cores, that core is what the API
server needs. Selected by `--distributed-executor-backend server.vllm.executor.InProcess`.
"""

from __future__ import annotations

import sys

from vllm.v1.executor.uniproc_executor import UniProcExecutor


class InProcess(UniProcExecutor):
    """vLLM's own single-process executor under a name its CPU platform does not replace.

    It is replaced there because OpenMP must be set up before it is loaded; `attune serve` sets
    it up in the environment of all its processes.
    """

    def _init_executor(self) -> None:
        # The threads that take requests in and hand tokens out share the interpreter with the
        # model here: they must not wait Python's 5 ms for it.
        sys.setswitchinterval(0.0005)
        super()._init_executor()
