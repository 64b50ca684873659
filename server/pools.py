"""Threads by whose work they do, so that no kind of work waits behind another.

Tenants' calls of our routes run in the framework's threads, a few at a time for each tenant
(`server.turns`). The server's own work runs here and never there: nothing that is asked from
outside may keep a revoked key in use or a broken version live. Knows nothing of what runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

REGISTRY = ThreadPoolExecutor(2, thread_name_prefix="attune-registry")
"""Reading the registry, and nothing that writes: a look waits for no lock of the database."""

OWN = ThreadPoolExecutor(4, thread_name_prefix="attune-own")
"""What else the server does of itself: quarantine, report, count, shut down."""

WEIGHTS = ThreadPoolExecutor(4, thread_name_prefix="attune-weights")
"""Fetching weights and reading their digest, as long as a store takes."""

RESPONSES = ThreadPoolExecutor(2, thread_name_prefix="attune-responses")
"""Reading the record that a response goes on from: tenants' work, on the way of an answer."""


async def run_in(
    pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The result of `work`, done by a thread of `pool`. Cancelled, the thread goes on alone."""
    return await asyncio.get_running_loop().run_in_executor(pool, partial(work, *args, **kwargs))
