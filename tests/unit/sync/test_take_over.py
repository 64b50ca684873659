"""A version is live on a server only once its engine has it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.registry_world import World, settle

from adapters.artifacts.store import ADAPTER_FILES
from core.errors import Unavailable


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
