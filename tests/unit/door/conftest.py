"""A door of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from support.asgi import BASE, Door
from support.engine import Engine

from core.settings import Settings
from deploy.kinds import KINDS
from server.runtime import Runtime


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """Its follower sleeps for an hour: what is seen at once is seen without its help."""
    settings = Settings(home=tmp_path, sync_interval_s=3600.0, max_body_bytes=10_000)
    engine = Engine()
    runtime = Runtime(
        settings, engine, base=BASE, served_name="town", max_model_len=512, kinds=KINDS
    )
    await runtime.start()
    yield Door(runtime, engine)
    await runtime.stop()
