"""`python -m deploy.bench.plain`: the same vLLM with the same flags, without the gateway.

For comparison only: no keys, no recording, no Attune routes. Arguments are vLLM's own.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from core.settings import Settings


class _Nothing:
    """An endpoint plugin that adds no endpoint."""

    name = "attune"
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        """Leave vLLM's app as it is."""

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Keep no state."""


def main() -> None:
    """Serve the configured model until told to stop."""
    from server.vllm.serve import serve

    # vLLM finds the plugin by this name; its other half, the LoRA arithmetic, stays.
    (point,) = entry_points(group="vllm.endpoint_plugins", name="attune")
    setattr(import_module(point.module), point.attr, _Nothing)
    serve(Settings(), sys.argv[1:])


if __name__ == "__main__":
    main()
