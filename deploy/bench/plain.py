"""`python -m deploy.bench.plain`: the same vLLM with the same flags, without the gateway.

For comparison only: no keys, no recording, no Attune routes. Arguments are vLLM's own.
"""

from __future__ import annotations

import sys
from argparse import Namespace
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
    from deploy import plugin
    from server.vllm.serve import serve

    # What the entry point names; the plugin's other half, the LoRA arithmetic, stays.
    plugin.endpoint = _Nothing  # type: ignore[assignment]
    serve(Settings(), sys.argv[1:])


if __name__ == "__main__":
    main()
