"""Adapters that come with a live version this server does not have yet."""

from __future__ import annotations

import asyncio

import pytest
from support.registry_world import World, settle

from core.errors import NotFound


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
