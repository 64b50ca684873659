"""A server following the registry: a version is live only once the engine has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from adapters.artifacts.digest import ADAPTER_FILES, file_digests
from adapters.artifacts.store import ArtifactStore
from adapters.registry import Registry
from adapters.routing import route
from adapters.types import Adapter, ArtifactInfo, Learning, Version
from core.database import Database
from core.errors import AttuneError, NotFound, Unavailable
from core.held import HeldConnection
from core.identity.keys import split_key
from core.identity.tenants import TenantStore
from core.ids import TenantId
from feedback.interactions import InteractionStore
from server.engine.residency import Residency
from server.sync.prewarm import prewarm
from server.sync.registry_sync import RegistrySync


class Engine:
    """Adapters in memory; `before_load` may wait or refuse."""

    def __init__(self) -> None:
        self.loaded: dict[int, str] = {}
        self.before_load: Callable[[int], Awaitable[None]] | None = None

    def hold(self) -> tuple[asyncio.Event, asyncio.Event]:
        """Every load waits: one event says that one has begun, the other lets them go on."""
        began, go = asyncio.Event(), asyncio.Event()

        async def wait(_: int) -> None:
            began.set()
            await go.wait()

        self.before_load = wait
        return began, go

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        if self.before_load is not None:
            await self.before_load(engine_id)
        self.loaded[engine_id] = name

    async def unload(self, name: str, engine_id: int) -> None:
        del self.loaded[engine_id]


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


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    for database in made.databases:
        database.dispose()


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_a_version_goes_live_only_after_the_engine_has_it(world: World) -> None:
    adapter = world.adapter("support")
    first = world.publish(adapter)
    server = await world.server()
    began, go = server.engine.hold()
    second = world.publish(adapter)
    looking = asyncio.create_task(server.sync.refresh())
    await began.wait()
    assert server.live(world.tenant, "support") == first.number
    go.set()
    await looking
    assert server.live(world.tenant, "support") == second.number
    await settle()
    assert list(server.engine.loaded) == [second.engine_id]  # the old one has left
    assert server.taken_over == [second.engine_id]


async def test_a_version_the_engine_refuses_leaves_the_old_one_live(world: World) -> None:
    adapter = world.adapter("support")
    first = world.publish(adapter)
    server = await world.server()

    async def refuse(_: int) -> None:
        raise Unavailable("no")

    server.engine.before_load = refuse
    second = world.publish(adapter)
    await server.sync.refresh()
    assert server.live(world.tenant, "support") == first.number
    assert [(n, e and e.message) for n, e in server.reports] == [
        (first.engine_id, None),
        (second.engine_id, "no"),
    ]
    await settle()
    assert list(server.engine.loaded) == [first.engine_id]
    server.engine.before_load = None
    third = world.publish(adapter)
    await server.sync.refresh()
    assert server.live(world.tenant, "support") == third.number


async def test_a_version_that_failed_is_tried_at_once_when_it_is_activated_again(
    world: World,
) -> None:
    adapter = world.adapter("support")
    server = await world.server()

    async def refuse(_: int) -> None:
        raise Unavailable("no")

    server.engine.before_load = refuse
    version = world.publish(adapter)
    await server.sync.refresh()
    server.engine.before_load = None
    await server.sync.refresh()
    assert server.live(world.tenant, "support") is None  # not again by itself so soon
    world.activate(adapter, version.number)
    await server.sync.refresh()
    assert server.live(world.tenant, "support") == version.number


async def test_weights_damaged_on_disk_never_go_live_and_stop_nobody_else(world: World) -> None:
    adapter, other = world.adapter("support"), world.adapter("other")
    server = await world.server()
    damaged = world.publish(adapter)
    (world.artifacts.folder(damaged.digest) / ADAPTER_FILES[1]).unlink()
    good = world.publish(other)
    await server.sync.refresh()
    assert server.live(world.tenant, "support") is None
    assert server.live(world.tenant, "other") == good.number
    assert list(server.engine.loaded) == [good.engine_id]


async def test_a_server_starts_although_a_live_version_cannot_be_loaded(world: World) -> None:
    damaged = world.publish(world.adapter("support"))
    (world.artifacts.folder(damaged.digest) / ADAPTER_FILES[0]).unlink()
    good = world.publish(world.adapter("other"))
    server = await world.server()
    assert list(server.engine.loaded) == [good.engine_id]


async def test_after_a_restart_the_live_versions_are_ready(world: World) -> None:
    adapter = world.adapter("support")
    world.publish(adapter)
    live = world.publish(adapter)
    world.adapter("unborn")
    server = await world.server()
    assert server.live(world.tenant, "support") == live.number
    assert server.live(world.tenant, "unborn") is None
    assert list(server.engine.loaded) == [live.engine_id]


async def test_a_server_killed_between_load_and_flip_serves_the_new_version_after_its_restart(
    world: World,
) -> None:
    adapter = world.adapter("support")
    first = world.publish(adapter)
    server = await world.server()
    loaded, never = asyncio.Event(), asyncio.Event()
    load = server.engine.load

    async def load_and_hang(name: str, engine_id: int, path: Path) -> None:
        await load(name, engine_id, path)
        loaded.set()
        await never.wait()

    server.engine.load = load_and_hang  # type: ignore[method-assign]
    second = world.publish(adapter)
    looking = asyncio.create_task(server.sync.refresh())
    await loaded.wait()
    assert second.engine_id in server.engine.loaded
    assert server.live(world.tenant, "support") == first.number
    looking.cancel()  # the end of this server: nothing of it comes back
    await asyncio.gather(looking, return_exceptions=True)
    again = await world.server()
    assert again.live(world.tenant, "support") == second.number
    assert list(again.engine.loaded) == [second.engine_id]


async def test_a_version_taken_back_while_it_loads_never_goes_live(world: World) -> None:
    adapter = world.adapter("support")
    good = world.publish(adapter)
    server = await world.server()
    began, go = server.engine.hold()
    bad = world.publish(adapter)
    loading = asyncio.create_task(server.sync.refresh())
    await began.wait()
    world.registry.rollback(world.registry.by_id(adapter.id), actor="ann")
    await server.sync.look()
    go.set()
    await loading
    await settle()
    assert bad.engine_id not in server.taken_over
    assert server.live(world.tenant, "support") == good.number
    assert list(server.engine.loaded) == [good.engine_id]


async def test_a_version_is_live_without_waiting_for_others_to_load(world: World) -> None:
    adapters = [world.adapter(name) for name in ("first", "second")]
    server = await world.server()
    began, go = asyncio.Event(), asyncio.Event()
    versions = [world.publish(adapter) for adapter in adapters]

    async def slow(engine_id: int) -> None:
        if engine_id == versions[1].engine_id:
            began.set()
            await go.wait()

    server.engine.before_load = slow
    loading = asyncio.create_task(server.sync.refresh())
    await began.wait()
    assert server.live(world.tenant, "first") == 1
    go.set()
    await loading
    assert server.live(world.tenant, "second") == 1


async def test_rollback_and_the_base_arrive_like_any_other_move(world: World) -> None:
    adapter = world.adapter("support")
    server = await world.server()
    first = world.publish(adapter)
    await server.sync.refresh()
    world.publish(adapter)
    await server.sync.refresh()
    world.registry.rollback(world.registry.by_id(adapter.id), actor="ann")
    await server.sync.refresh()
    assert server.live(world.tenant, "support") == first.number
    world.activate(adapter, None)
    await server.sync.refresh()
    await settle()
    assert server.live(world.tenant, "support") is None
    assert server.engine.loaded == {}


async def test_answers_under_way_keep_the_old_version_until_they_end(world: World) -> None:
    adapter = world.adapter("support")
    old = world.publish(adapter)
    server = await world.server()
    async with server.residency.lease(server.engine.loaded[old.engine_id], old):
        new = world.publish(adapter)
        await server.sync.refresh()
        await settle()
        assert sorted(server.engine.loaded) == [old.engine_id, new.engine_id]
    await settle()
    assert list(server.engine.loaded) == [new.engine_id]


async def test_two_servers_on_one_registry_come_to_agree(world: World) -> None:
    def answers(server: Server, number: int) -> bool:
        return server.live(world.tenant, "support") == number

    adapter = world.adapter("support")
    servers = [await world.server() for _ in range(2)]
    following = [asyncio.create_task(server.sync.follow()) for server in servers]
    try:
        for _ in range(3):
            version = world.publish(adapter)
            for server in servers:
                await until(partial(answers, server, version.number))
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    await settle()
    assert [list(server.engine.loaded) for server in servers] == [[version.engine_id]] * 2


async def test_a_database_that_fails_for_a_while_stops_neither_following_nor_serving(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = world.adapter("support")
    first = world.publish(adapter)
    server = await world.server()
    failed = 0

    def fail(_: HeldConnection) -> AbstractContextManager[sa.Connection]:
        nonlocal failed
        failed += 1
        raise OSError("connection refused")

    monkeypatch.setattr(HeldConnection, "transaction", fail)
    following = asyncio.create_task(server.sync.follow())
    await until(lambda: failed > 2)
    assert server.live(world.tenant, "support") == first.number
    monkeypatch.undo()
    second = world.publish(adapter)
    await until(lambda: server.live(world.tenant, "support") == second.number)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_commit_is_noticed_between_two_looks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is seen in the moment in which it is written but cannot be read yet."""
    adapter = world.adapter("support")
    server = await world.server(interval_s=60.0)
    database = world.databases[-1]
    glance, known, early = database.glance, database.last_change(), iter([True] * 3)
    monkeypatch.setattr(database, "glance", lambda: known if next(early, False) else glance())
    following = asyncio.create_task(server.sync.follow())
    version = world.publish(adapter)
    await until(lambda: server.live(world.tenant, "support") == version.number)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_commits_that_change_nothing_in_the_registry_cost_no_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await world.server(interval_s=60.0)
    looks = 0

    async def counted() -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(server.sync, "look", counted)
    following = asyncio.create_task(server.sync.follow())
    for number in range(5):
        world.tenants.secret(f"no part of the registry {number}")
        await asyncio.sleep(0.03)
    assert looks == 0
    world.adapter("support")
    await until(lambda: looks > 0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_key_made_a_moment_ago_is_known_after_one_look(world: World) -> None:
    server = await world.server()
    _, text = world.tenants.create_key(world.tenant, frozenset({"inference"}))
    assert split_key(text)[0] not in server.sync.directory.keys
    await server.sync.look()
    assert split_key(text)[0] in server.sync.directory.keys


async def test_keys_and_names_do_not_wait_for_a_load(world: World) -> None:
    """Neither a new key nor a revocation may hang on how long weights take to arrive."""
    adapter = world.adapter("support")
    server = await world.server()
    key, _ = world.tenants.create_key(world.tenant, frozenset({"inference"}))
    await server.sync.refresh()
    began, go = server.engine.hold()
    world.publish(adapter)
    loading = asyncio.create_task(server.sync.refresh())
    await began.wait()
    world.tenants.revoke_key(key.public_id)
    newer, _ = world.tenants.create_key(world.tenant, frozenset({"inference"}))
    world.adapter("fresh")
    async with asyncio.timeout(5):
        await server.sync.look()
    assert server.sync.directory.keys[key.public_id].revoked_at_s is not None
    assert newer.public_id in server.sync.directory.keys
    assert server.live(world.tenant, "fresh") is None
    assert server.live(world.tenant, "support") is None
    go.set()
    await loading
    assert server.live(world.tenant, "support") == 1
    assert newer.public_id in server.sync.directory.keys


async def test_an_adapter_born_live_is_not_answered_by_the_base_before_it_is_loaded(
    world: World,
) -> None:
    """A look alone leaves it unknown; who asks for it by name has it loaded."""
    server = await world.server()
    version = world.publish(world.adapter("support"))
    await server.sync.look()
    with pytest.raises(NotFound):
        server.live(world.tenant, "support")
    await server.sync.refresh()
    assert server.live(world.tenant, "support") == version.number


async def test_an_adapter_born_live_that_moves_on_while_it_loads_is_known_afterwards(
    world: World,
) -> None:
    server = await world.server()
    adapter = world.adapter("support")
    world.publish(adapter)
    began, go = server.engine.hold()
    loading = asyncio.create_task(server.sync.refresh())
    await began.wait()
    second = world.publish(adapter)
    await server.sync.look()
    go.set()
    await loading
    assert server.live(world.tenant, "support") == second.number
    await settle()
    assert list(server.engine.loaded) == [second.engine_id]


async def test_several_adapters_born_live_for_one_subject_are_all_taken_over(world: World) -> None:
    """Both are for the whole tenant: the older is left out of `auto` until it is loaded."""
    server = await world.server()
    older = world.publish(world.adapter("support"))
    newer = world.publish(world.adapter("sales"))
    await server.sync.look()
    for name in ("support", "sales"):
        with pytest.raises(NotFound):
            server.live(world.tenant, name)
    assert server.live(world.tenant, "auto") is None
    await server.sync.refresh()
    assert server.live(world.tenant, "auto") == older.number
    assert server.live(world.tenant, "sales") == newer.number
    assert set(server.engine.loaded) == {older.engine_id, newer.engine_id}


async def test_many_who_look_at_once_ask_the_database_little(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up keys must not turn into a queue of queries that real ones wait behind."""
    server = await world.server()
    asked = 0
    real = HeldConnection.transaction

    def counted(held: HeldConnection) -> AbstractContextManager[sa.Connection]:
        nonlocal asked
        asked += 1
        return real(held)

    monkeypatch.setattr(HeldConnection, "transaction", counted)
    await asyncio.gather(*(server.sync.look() for _ in range(50)))
    assert 1 <= asked <= 2
