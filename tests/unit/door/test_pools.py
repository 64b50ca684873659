"""Whatever tenants keep the server's threads and connections busy with, its own work goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import anyio.to_thread
from starlette.concurrency import run_in_threadpool
from support.asgi import Door

from server.pools import OWN


@asynccontextmanager
async def every_thread_taken() -> AsyncIterator[None]:
    """Tenants' work has each thread that the framework, and asyncio by default, has to give."""
    end = threading.Event()
    framework = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
    work = [asyncio.create_task(run_in_threadpool(end.wait)) for _ in range(framework)]
    work += [asyncio.create_task(asyncio.to_thread(end.wait)) for _ in range(64)]
    try:
        async with asyncio.timeout(10):
            while anyio.to_thread.current_default_thread_limiter().available_tokens:
                await asyncio.sleep(0)
            yield
    finally:
        end.set()
        await asyncio.gather(*work)


async def test_a_revoked_key_is_refused_while_every_thread_is_taken(door: Door) -> None:
    key = door.new_key("inference")
    body = {"model": "base", "messages": []}
    assert (await door.call("/v1/chat/completions", body, key=key)).status == 200
    async with every_thread_taken():
        door.runtime.tenants.revoke_key(key)
        await door.runtime.sync.refresh()
        assert (await door.call("/v1/chat/completions", body, key=key)).status == 401
        new = door.new_key("inference")
        assert (await door.call("/v1/chat/completions", body, key=new)).status == 200


async def test_a_broken_version_is_quarantined_while_every_thread_is_taken(
    door: Door, tmp_path: object
) -> None:
    engine_id = door.push("support", door.runtime.settings.home / "v1")
    await door.runtime.sync.refresh()
    async with every_thread_taken():
        door.engine.leave(engine_id)
        reply = await door.chat("support")
        assert (reply.status, reply.error["code"]) == (503, "absurd_weights")
        (adapter,) = door.runtime.registry.adapters(door.tenant.id)
        assert door.runtime.registry.version(adapter.id, 1).state == "quarantined"


async def test_an_adapter_is_loaded_and_an_answer_kept_while_every_thread_is_taken(
    door: Door,
) -> None:
    async with every_thread_taken():
        door.push("support", door.runtime.settings.home / "v1")
        await door.runtime.sync.refresh()
        assert (await door.chat("support")).headers[b"x-attune-version"] == b"support@1"
        assert len(door.recorded()) == 1


async def test_tenants_cannot_take_every_connection_to_the_database(door: Door) -> None:
    key = door.new_key("inference")
    body = {"model": "base", "messages": []}
    assert (await door.call("/v1/chat/completions", body, key=key)).status == 200
    door.runtime.tenants.revoke_key(key)
    with ExitStack() as taken:
        for _ in range(15):  # all that its pool gives
            taken.enter_context(door.runtime.database.read())
        async with asyncio.timeout(5):
            await door.runtime.sync.refresh()
            assert (await door.call("/v1/chat/completions", body, key=key)).status == 401
            assert (await door.chat("base")).status == 200


async def test_a_tenants_slow_calls_leave_threads_to_others(door: Door) -> None:
    """As many as are at work hold a thread each; the rest of them wait without one."""
    at_once = door.runtime.settings.tenant_calls
    assert at_once * 2 < anyio.to_thread.current_default_thread_limiter().total_tokens
    other = door.new_key("feedback", tenant="other")
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        held = [door.runtime.calls.of(door.tenant.id) for _ in range(at_once)]
        for place in held:
            await place.__aenter__()
        waiting = group.create_task(door.call("/v1/feedback", method="GET"))
        assert (await door.call("/v1/feedback", method="GET", key=other)).status == 200
        assert not waiting.done()
        for place in held:
            await place.__aexit__(None, None, None)
    assert (await waiting).status == 200


async def test_a_look_at_the_registry_waits_for_no_write(door: Door) -> None:
    """Whoever holds the lock for writing holds up quarantines and reports, but no revocation."""
    key = door.new_key("inference")
    await door.runtime.sync.refresh()
    door.runtime.tenants.revoke_key(key)
    end = threading.Event()
    writes = [asyncio.get_running_loop().run_in_executor(OWN, end.wait) for _ in range(8)]
    try:
        async with asyncio.timeout(5):
            await door.runtime.sync.refresh()
            body = {"model": "base", "messages": []}
            assert (await door.call("/v1/chat/completions", body, key=key)).status == 401
    finally:
        end.set()
        await asyncio.gather(*writes)
