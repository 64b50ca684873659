"""A registry and the servers that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from adapters.artifacts.store import ADAPTER_FILES, ArtifactStore, file_digests
from adapters.registry import Registry
from adapters.routing import route
from adapters.types import Adapter, ArtifactInfo, Learning, Version
from core.database import Database
from core.errors import AttuneError
from core.identity.tenants import TenantStore
from core.ids import TenantId
from feedback.interactions import InteractionStore
from server.engine.residency import Residency
from server.sync.prewarm import prewarm
from server.sync.registry_sync import RegistrySync
from support.engine import Engine


class Server:
    """One server's half: its engine, its residency, its picture of the registry."""

    def __init__(self, database: Database, artifacts: ArtifactStore, interval_s: float) -> None:
        self.engine = Engine()
        self.reports: list[tuple[int, AttuneError | None]] = []
        self.taken_over: list[int] = []
        self.residency = Residency(
            self.engine,
            artifacts.check,
            capacity=8,
            report=lambda v, error: self.reports.append((v.engine_id, error)),
        )
        self.sync = RegistrySync(
            database,
            self.residency,
            interval_s=interval_s,
            publish_interval_s=0.0,
            on_live=lambda v: self.taken_over.append(v.engine_id),
        )

    def live(self, tenant_id: TenantId, name: str) -> int | None:
        """The number of the version that answers for `name` on this server now."""
        found = route(self.sync.directory, tenant_id, name, draw=1.0)
        return found.version and found.version.number


class World:
    """A registry and the servers on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'attune.db'}"
        self.databases: list[Database] = []
        self.database = self.open()
        self.database.upgrade()
        self.artifacts = ArtifactStore(str(folder / "artifacts"))
        self.registry, self.tenants = Registry(self.database), TenantStore(self.database)
        self.tenant = self.tenants.create("acme").id
        self.pushed = 0

    def open(self) -> Database:
        self.databases.append(Database(self.url))
        return self.databases[-1]

    async def server(self, *, interval_s: float = 0.001) -> Server:
        database = self.open()
        server = Server(database, self.artifacts, interval_s)
        await server.sync.start()
        await prewarm(server.residency, server.sync.directory, InteractionStore(database), limit=8)
        return server

    def adapter(self, name: str) -> Adapter:
        return self.registry.create(self.tenant, name, learning=Learning(exploration=0.0))

    def push(self, adapter: Adapter) -> Version:
        self.pushed += 1
        source = self.folder / f"source-{self.pushed}"
        source.mkdir()
        for name in ADAPTER_FILES:
            (source / name).write_text(f"{name} {self.pushed}")
        digest = self.artifacts.put_folder(source)
        info = ArtifactInfo(digest, 1, 8, ("q_proj",), file_digests(source))
        return self.registry.add_version(adapter.id, info, source="upload")

    def publish(self, adapter: Adapter) -> Version:
        """A new version, made live."""
        version = self.push(adapter)
        self.activate(adapter, version.number)
        return version

    def activate(self, adapter: Adapter, number: int | None) -> None:
        now = self.registry.by_id(adapter.id)
        self.registry.activate(now, number, actor="test", reason="")


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)
