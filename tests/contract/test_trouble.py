"""A database in trouble: 503 on every route that needs it, in time, without a word it said; and
everything goes on when it is over."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.routing import Route
from support import trouble
from support.door import Door, open_door
from support.trouble import Proxy

from adapters.registry import Registry
from core.database import Database
from deploy.kinds import KINDS
from server.routes import attach

pytestmark = pytest.mark.slow

WAIT_S = 0.5
SLACK_S = 3.0
"""What two cores take for thirty calls at once, and the least libpq waits for a connection."""

JUDGED = {
    "adapter": "support",
    "kind": "labels",
    "rows": [{"prompt": "Which?", "completion": "This.", "label": True}],
}
FROM_MEMORY = {"/v1/models/{model}", "/openapi.json", "/docs", "/health", "/ping"}
READS = [
    "/v1/models",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/input_items",
    "/v1/interactions",
    "/v1/interactions/{interaction_id}",
    "/v1/feedback",
    "/v1/feedback/{feedback_id}",
    "/v1/adapters",
    "/v1/adapters/{name}",
    "/v1/adapters/{name}/learning",
    "/v1/runs",
    "/v1/runs/{work_id}",
    "/v1/runs/{work_id}/events",
    "/v1/exports",
    "/v1/exports/{work_id}",
    "/v1/exports/{work_id}/events",
    "/v1/exports/{work_id}/files/{path:path}",
]
THUMB = {"completion_id": "ANSWER", "name": "thumb", "value": True}
SYNCED = {"type": "feedback", "id": "n-1", "created_at": 1.0, **THUMB}
WRITES: list[tuple[str, str, Any]] = [
    ("DELETE", "/v1/responses/{response_id}", {}),
    ("POST", "/v1/feedback", THUMB),
    ("DELETE", "/v1/feedback/{feedback_id}", {}),
    ("POST", "/v1/edge/sync", {"device": "0" * 32, "items": [SYNCED]}),
    ("POST", "/v1/judgements", JUDGED),
    ("POST", "/api/public/scores", {"traceId": "ANSWER", "name": "thumb", "value": 1}),
    ("DELETE", "/api/public/scores/{feedback_id}", {}),
    ("POST", "/v1/adapters", {"name": "another"}),
    ("PATCH", "/v1/adapters/{name}", {"learning": {"exploration": 0.5}}),
    ("POST", "/v1/adapters/{name}/activate", {"version": 1}),
    ("POST", "/v1/adapters/{name}/rollback", {}),
    ("POST", "/v1/runs", {"adapter": "support"}),
    ("POST", "/v1/exports", {"model": "support"}),
]
READ_FIRST: list[tuple[str, str, Any]] = [
    ("POST", "/v1/responses/{response_id}/cancel", {}),
    ("POST", "/v1/runs/{work_id}/cancel", {}),
    ("POST", "/v1/exports/{work_id}/cancel", {}),
    ("POST", "/v1/adapters/{name}/versions", {}),
]
"""Writes of what is not there: they need the database to say so."""

LEAKS = re.compile(
    r"sql|insert|select|psycopg|traceback|/tmp|\.db\b|exception|relation|malformed|readonly", re.I
)

Cause = Callable[..., AbstractContextManager[None]]
NEITHER: list[tuple[str, Cause]] = [
    ("sqlite", trouble.away),
    ("sqlite", trouble.damaged),
    ("sqlite", trouble.emptied),
    ("sqlite", trouble.exhausted),
    ("postgres", trouble.tables_locked),
    ("postgres", trouble.exhausted),
]
NO_WRITES: list[tuple[str, Cause]] = [
    ("sqlite", trouble.locked),
    ("sqlite", trouble.full),
    ("sqlite", trouble.read_only),
    ("postgres", trouble.read_only),
]


def cases(listed: list[tuple[str, Cause]]) -> Any:
    named = [pytest.param(*case, id=f"{case[0]}-{case[1].__name__}") for case in listed]
    return pytest.mark.parametrize(("database_url", "cause"), named, indirect=["database_url"])


@dataclass
class Client:
    """A tenant with an adapter, an answer and feedback, who asks for everything there is."""

    door: Door
    http: httpx.AsyncClient
    completion_id: str
    response_id: str

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        known = {"name": "support", "model": "support", "path:path": "x"}
        for name, value in {**known, "response_id": self.response_id}.items():
            path = path.replace(f"{{{name}}}", value)
        return await self.http.request(
            method, re.sub(r"\{\w+\}", "x", path), json=self._about_mine(body)
        )

    def _about_mine(self, body: Any) -> Any:
        if isinstance(body, dict):
            return {key: self._about_mine(value) for key, value in body.items()}
        if isinstance(body, list):
            return [self._about_mine(value) for value in body]
        return self.completion_id if body == "ANSWER" else body

    async def refused(self, calls: list[tuple[str, str, Any]]) -> None:
        """All of them, at once: 503, in time, in our words."""
        results = await asyncio.gather(*(_timed(self.call(*call)) for call in calls))
        for call, (response, took_s) in zip(calls, results, strict=True):
            assert response.status_code == 503, (call, response.text)
            assert response.headers["retry-after"] == "1", call
            assert _code(response) == "database_unavailable", (call, response.text)
            assert not LEAKS.search(response.text), (call, response.text)
            assert took_s < WAIT_S + SLACK_S, (call, took_s)

    async def works_again(self) -> None:
        async with asyncio.timeout(10):
            while (await self.call("POST", "/v1/feedback", THUMB)).status_code != 201:
                await asyncio.sleep(0.05)
            while (await self.call("GET", "/v1/feedback")).status_code != 200:
                await asyncio.sleep(0.05)


def _code(response: httpx.Response) -> str:
    """Langfuse's own form of an error has no place for one."""
    own = response.request.url.path.startswith("/v1/")
    return response.json()["error"]["code"] if own else "database_unavailable"


async def _timed(call: Awaitable[httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    return await call, time.monotonic() - began


async def open_client(folder: Path, url: str) -> Client:
    door = await open_door(folder, url, database_wait_s=WAIT_S)
    door.version(door.adapter("acme", "support"), folder / "v1", live=True)
    http = door.client("acme", "inference", "feedback", "train")
    signer, tenant_id = door.runtime.signer, door.tenant("acme")
    answered = "chatcmpl-" + signer.token(tenant_id)
    client = Client(door, http, answered, "resp_" + signer.token(tenant_id, "responses"))
    await client.works_again()
    return client


@pytest_asyncio.fixture
async def client(tmp_path: Path, database_url: str) -> AsyncIterator[Client]:
    opened = await open_client(tmp_path, database_url)
    yield opened
    await opened.http.aclose()
    await opened.door.runtime.stop()


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    folder = Path(tempfile.mkdtemp(prefix="attune-proxy-"))
    made = Proxy(folder, database_url)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def proxied(proxy: Proxy, tmp_path: Path) -> AsyncIterator[Client]:
    opened = await open_client(tmp_path, proxy.url)
    yield opened
    await opened.http.aclose()
    await opened.door.runtime.stop()


def reads() -> list[tuple[str, str, Any]]:
    return [("GET", path, None) for path in READS]


def test_no_route_is_left_out_here() -> None:
    attach(app := FastAPI(), KINDS)
    theirs = {getattr(route, "path", "") for route in FastAPI().router.routes}
    ours = {
        (method, route.path)
        for route in app.router.routes
        if isinstance(route, Route) and route.path not in (theirs - FROM_MEMORY) | FROM_MEMORY
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert ours == {call[:2] for call in [*reads(), *WRITES, *READ_FIRST]}


@cases(NEITHER)
async def test_without_a_database_every_route_asks_to_try_again_in_time(
    client: Client, cause: Cause
) -> None:
    with cause(*client.door.databases):
        await client.refused([*reads(), *WRITES, *READ_FIRST])
    await client.works_again()


@cases([("sqlite", trouble.locked_for_readers_too)])
async def test_a_file_that_another_program_has_to_itself_is_told_in_time(
    client: Client, cause: Cause
) -> None:
    with cause(*client.door.databases):
        await client.refused(reads()[:1])
        await client.refused(WRITES[:1])
    await client.works_again()


@cases(NO_WRITES)
async def test_a_database_that_takes_no_writes_is_read_all_the_same(
    client: Client, cause: Cause
) -> None:
    # To erase what is not there is to write nothing.
    writes = [call for call in WRITES if call[0] != "DELETE"]
    with cause(*client.door.databases):
        await client.refused(writes)
        answers = [await client.call(*call) for call in reads()]
        assert {answer.status_code for answer in answers} == {200, 404}
    await client.works_again()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("how", ["away", "silent"])
async def test_a_postgres_that_is_gone_or_frozen_is_told_in_time(
    proxy: Proxy, proxied: Client, how: str
) -> None:
    with getattr(proxy, how)():
        await proxied.refused([*reads(), *WRITES, *READ_FIRST])
    await proxied.works_again()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_nobody_notices_that_postgres_was_restarted(proxy: Proxy, proxied: Client) -> None:
    for _ in range(5):
        proxy.cut()
        assert (await proxied.call("GET", "/v1/adapters")).status_code == 200
        assert (await proxied.call("POST", "/v1/feedback", THUMB)).status_code == 201


@cases([("sqlite", trouble.locked), ("postgres", trouble.tables_locked)])
async def test_however_many_wait_nobody_waits_one_after_another(
    client: Client, cause: Cause
) -> None:
    """Far more than there are threads, connections, and turns of a tenant."""
    with cause(*client.door.databases):
        await client.refused([("POST", "/v1/adapters", {"name": "another"})] * 150)
        await client.refused([("POST", "/v1/feedback", THUMB)] * 150)


@cases([("sqlite", trouble.exhausted), ("postgres", trouble.exhausted)])
async def test_whoever_has_all_connections_keeps_no_news_of_the_registry_waiting(
    client: Client, cause: Cause
) -> None:
    elsewhere, acme = Database(client.door.runtime.database.url), client.door.tenant("acme")
    with cause(client.door.runtime.database):
        await client.refused([("GET", "/v1/feedback", None)])
        Registry(elsewhere).create(acme, "another")
        assert '"another"' in (await client.call("GET", "/v1/models")).text
    elsewhere.dispose()
