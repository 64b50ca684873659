"""A real server to attack, and its tenants."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from support.tenant import Tenant

from deploy.processes.server_process import ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`attune serve` with few slots and places, and no trainer."""
    process = ServerProcess(
        tmp_path_factory.mktemp("attacked"),
        command=("-m", "deploy.cli.app", "serve", "--no-trainer"),
        environment={"ATTUNE_MAX_LORAS": "4", "ATTUNE_MAX_CPU_LORAS": "6"},
    )
    process.start()
    yield process
    process.stop()


@pytest.fixture
def victim(server: ServerProcess) -> Tenant:
    """Somebody who asks the base model."""
    return Tenant(server, name := f"victim-{uuid.uuid4().hex[:8]}", server.key(name))


@pytest.fixture
def attacker(server: ServerProcess) -> Tenant:
    """Somebody who may upload adapters."""
    return Tenant(server, name := f"attacker-{uuid.uuid4().hex[:8]}", server.key(name))
