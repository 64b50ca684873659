"""Following the registry: what is noticed, when, and at what cost."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from functools import partial

import pytest
import sqlalchemy as sa
from support.registry_world import Server, World, settle, until

from core.database import Database
from core.identity.keys import split_key


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

    def fail(_: Database) -> AbstractContextManager[sa.Connection]:
        nonlocal failed
        failed += 1
        raise OSError("connection refused")

    monkeypatch.setattr(Database, "read", fail)
    following = asyncio.create_task(server.sync.follow())
    await until(lambda: failed > 2)
    assert server.live(world.tenant, "support") == first.number
    monkeypatch.undo()
    second = world.publish(adapter)
    await until(lambda: server.live(world.tenant, "support") == second.number)
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


async def test_many_who_look_at_once_ask_the_database_little(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up keys must not turn into a queue of queries that real ones wait behind."""
    server = await world.server()
    asked = 0
    real = Database.read

    def counted(database: Database) -> AbstractContextManager[sa.Connection]:
        nonlocal asked
        asked += 1
        return real(database)

    monkeypatch.setattr(Database, "read", counted)
    await asyncio.gather(*(server.sync.look() for _ in range(50)))
    assert 1 <= asked <= 2


async def test_commits_that_change_nothing_in_the_registry_leave_the_picture_as_it_is(
    world: World,
) -> None:
    server = await world.server()
    before = server.sync.directory
    world.tenants.secret("no part of the registry")
    await server.sync.refresh()
    assert server.sync.directory is before
    world.adapter("support")
    await server.sync.refresh()
    assert server.sync.directory is not before


async def test_following_goes_on_while_a_load_takes_its_time(world: World) -> None:
    """A version that waits for room once kept a revoked key in use for half a minute."""
    adapter = world.adapter("support")
    server = await world.server()
    key, _ = world.tenants.create_key(world.tenant, frozenset({"inference"}))
    following = asyncio.create_task(server.sync.follow())
    await until(lambda: key.public_id in server.sync.directory.keys)
    began, go = server.engine.hold()
    world.publish(adapter)
    await began.wait()
    world.tenants.revoke_key(key.public_id)
    await until(lambda: server.sync.directory.keys[key.public_id].revoked_at_s is not None)
    assert server.live(world.tenant, "support") is None
    second = world.publish(adapter)
    go.set()
    await until(lambda: server.live(world.tenant, "support") == second.number)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_follower_that_is_stopped_stops_what_it_had_begun(world: World) -> None:
    adapter = world.adapter("support")
    server = await world.server()
    following = asyncio.create_task(server.sync.follow())
    began, go = server.engine.hold()
    world.publish(adapter)
    await began.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    go.set()
    await settle()
    assert server.engine.loaded == {}
    await server.sync.refresh()
    assert len(server.engine.loaded) == 1
