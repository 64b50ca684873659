"""A whole server but for the engine, on a database of the test's choice, and clients for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from adapters.artifacts.digest import ADAPTER_FILES
from adapters.types import Adapter, ArtifactInfo, Learning, VersionState
from adapters.validate import BaseModel
from core.database import Database
from core.identity.types import Scope
from core.ids import Digest, TenantId
from core.settings import Settings
from core.work.kind import Kind
from deploy.kinds import KINDS
from server.door.gateway import Gateway
from server.routes import attach
from server.runtime import Runtime
from support.engine import Engine


@dataclass
class Door:
    """The gateway and the routes of one running server."""

    runtime: Runtime
    app: Any

    @property
    def databases(self) -> tuple[Database, Database]:
        """All the pools of connections that it has."""
        return self.runtime.database, self.runtime.own_database

    def tenant(self, name: str) -> TenantId:
        known = {tenant.name: tenant.id for tenant in self.runtime.tenants.all()}
        return known.get(name) or self.runtime.tenants.create(name).id

    def client(self, tenant: str, *scopes: Scope) -> httpx.AsyncClient:
        """A client with a new key of the tenant; feedback and train if no scope is named."""
        wanted = frozenset(scopes or ("feedback", "train"))
        key = self.runtime.tenants.create_key(self.tenant(tenant), wanted)[1]
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url="http://server",
            headers={"authorization": f"Bearer {key}"},
        )

    def adapter(self, tenant: str, name: str, **learning: Any) -> Adapter:
        return self.runtime.registry.create(
            self.tenant(tenant), name, learning=Learning(**learning)
        )

    def version(
        self,
        adapter: Adapter,
        folder: Path,
        *,
        live: bool = False,
        state: VersionState = "candidate",
    ) -> int:
        """Register a version whose files hold nothing of sense."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(ADAPTER_FILES):
            (folder / file).write_bytes(f"{adapter.id} {number}".encode())
        digest: Digest = self.runtime.artifacts.put_folder(folder)
        info = ArtifactInfo(digest, 1, 4, ("q_proj",))
        version = self.runtime.registry.add_version(adapter.id, info, source="upload", state=state)
        if live:
            now = self.runtime.registry.by_id(adapter.id)
            self.runtime.registry.activate(now, version.number, actor="test", reason="")
        return version.number


async def open_door(
    home: Path,
    database_url: str,
    kinds: Sequence[type[Kind[Any, Any]]] = KINDS,
    *,
    database_wait_s: float = 10.0,
) -> Door:
    """Start it; `await door.runtime.stop()` afterwards."""
    settings = Settings(home=home, database_url=database_url, database_wait_s=database_wait_s)
    base = BaseModel("tiny", {"model.layers.0.self_attn.q_proj": (6, 4)})
    runtime = Runtime(
        settings, Engine(), base=base, served_name="base", max_model_len=512, kinds=kinds
    )
    await runtime.start()
    app = FastAPI()
    own = attach(app, kinds)
    app.state.attune = runtime
    return Door(runtime, Gateway(app, lambda: runtime, own))
