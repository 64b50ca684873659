"""vLLM's endpoint plugin with all kinds of work: what the entry point names.

Works under `attune serve` and under a stock `vllm serve` alike, with VLLM_PLUGINS=attune. The
general plugin, which every vLLM process loads, is `server.vllm.plugin:register`.
"""

from __future__ import annotations

from deploy.kinds import KINDS
from server.vllm.plugin import AttuneEndpoints


def endpoint() -> AttuneEndpoints:
    """The factory named by the entry point."""
    return AttuneEndpoints(KINDS)
