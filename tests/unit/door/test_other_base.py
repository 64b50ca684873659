"""A server on another base model than its registry's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.asgi import BASE, Door
from support.engine import Engine

from adapters.bases import Bases
from adapters.types import ArtifactInfo
from adapters.validate import BaseModel
from core.errors import Invalid
from core.ids import Digest
from core.settings import Settings
from deploy.kinds import KINDS
from server.runtime import Runtime

OLD, NEW = (replace(BASE, name=f"/models/{n}", digest=Digest(n * 32)) for n in ("a1", "b2"))


@asynccontextmanager
async def running(home: Path, base: BaseModel, accepted: str = "") -> AsyncIterator[Door]:
    settings = Settings(home=home, sync_interval_s=3600.0, accept_base=accepted)
    engine = Engine()
    runtime = Runtime(
        settings, engine, base=base, served_name="town", max_model_len=512, kinds=KINDS
    )
    await runtime.start()
    yield Door(runtime, engine)
    await runtime.stop()


async def test_it_is_refused_at_start_and_the_right_one_is_not(tmp_path: Path) -> None:
    async with running(tmp_path / "home", OLD) as door:
        door.runtime.registry.create(door.tenant.id, "support")
        assert (await door.upload("support", tmp_path / "v1")).status == 201
    with pytest.raises(Invalid, match="ATTUNE_ACCEPT_BASE=b2b2b2b2b2b2 "):
        async with running(tmp_path / "home", NEW):
            pass
    async with running(tmp_path / "home", OLD) as door:
        assert (await door.chat("support@1")).headers[b"x-attune-version"] == b"support@1"


async def test_once_accepted_the_base_answers_and_the_versions_are_history(tmp_path: Path) -> None:
    async with running(tmp_path / "home", OLD) as door:
        door.runtime.registry.create(door.tenant.id, "support")
        await door.upload("support", tmp_path / "v1")
    async with running(tmp_path / "home", NEW, "b2" * 6) as door:
        assert (await door.chat("support")).headers[b"x-attune-version"] == b"town"
        pinned = await door.chat("support@1")
        assert (pinned.status, pinned.error["code"]) == (409, "other_base")
        looked = await door.call("/v1/models/support@1", method="GET")
        assert looked.status == 409
        body = {"version": 1, "force": True}
        refused = await door.call("/v1/adapters/support/activate", body)
        assert (refused.status, refused.error["code"]) == (409, "other_base")
        shown = await door.call("/v1/adapters/support", method="GET")
        assert len(json.loads(shown.body)["versions"]) == 1
        assert b"/models" not in shown.body
        assert (await door.upload("support", tmp_path / "v2")).status == 201
        await door.runtime.sync.refresh()
        assert (await door.chat("support@2")).status == 200
        assert door.engine.loaded.keys() == {2}


async def test_one_that_is_overtaken_serves_its_own_and_takes_nothing_of_the_other(
    tmp_path: Path,
) -> None:
    """Two servers on one database; the base is changed by the second."""
    async with running(tmp_path / "home", OLD) as door:
        adapter = door.runtime.registry.create(door.tenant.id, "support")
        await door.upload("support", tmp_path / "v1")
        Bases(door.runtime.database).bind(NEW, accepted="b2" * 6)
        info = ArtifactInfo(Digest("c" * 64), 1, 2, ("q_proj",), NEW.digest)
        registry = door.runtime.registry
        number = registry.add_version(adapter.id, info, source="upload").number
        registry.activate(registry.by_id(adapter.id), number, actor="test", reason="")
        await door.runtime.sync.refresh()
        loaded = set(door.engine.loaded)
        reply = await door.chat("support@2")
        assert (reply.status, reply.error["code"]) == (409, "other_base")
        assert (await door.chat("support@1")).status == 200
        assert set(door.engine.loaded) == loaded
        refused = await door.upload("support", tmp_path / "v3")
        assert (refused.status, refused.error["code"]) == (409, "other_base")
