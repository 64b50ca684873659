"""Which pages may call, and that their scripts can read every answer, refusals among them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from support.door import Door, open_door

from core.errors import Invalid
from server.cors import Cors, parse_origins

PAGE = "https://app.example"
PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/feedback", "/v1/models", "/api/public/scores"]


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, f"sqlite:///{tmp_path / 'attune.db'}")
    yield opened
    await opened.runtime.stop()


def browser(door: Door, origins: str) -> httpx.AsyncClient:
    """What a page's script sends, without a key."""
    app = Cors(door.app, parse_origins(origins))
    transport = httpx.ASGITransport(app=app, client=("10.0.0.9", 1))
    return httpx.AsyncClient(
        transport=transport, base_url="http://server", headers={"origin": PAGE}
    )


def preflight(method: str) -> dict[str, str]:
    return {
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type,x-attune-domain",
    }


@pytest.mark.parametrize("origins", ["*", PAGE, f"https://other.example, {PAGE}/ "])
async def test_a_preflight_needs_no_key(door: Door, origins: str) -> None:
    async with browser(door, origins) as page:
        for path, method in product(PATHS, ["POST", "GET", "DELETE", "PATCH"]):
            reply = await page.options(path, headers=preflight(method))
            assert reply.status_code == 200
            allowed = reply.headers["access-control-allow-origin"]
            assert allowed == ("*" if origins == "*" else PAGE)
            assert method in reply.headers["access-control-allow-methods"]
            for name in ("authorization", "content-type", "x-attune-domain"):
                assert name in reply.headers["access-control-allow-headers"]
            assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("origins", ["*", PAGE])
async def test_a_page_reads_answers_and_refusals_alike(door: Door, origins: str) -> None:
    key = door.client("acme", "inference").headers["authorization"]
    async with browser(door, origins) as page:
        refused = await page.post("/v1/chat/completions", json={})
        malformed = await page.post("/v1/messages", json={}, headers={"authorization": key})
        unknown = await page.get("/nowhere")
        answered = await page.get("/v1/adapters", headers={"authorization": key})
    replies = (refused, malformed, unknown, answered)
    assert [reply.status_code for reply in replies] == [401, 400, 404, 200]
    for reply in replies:
        assert reply.headers["access-control-allow-origin"] == ("*" if origins == "*" else PAGE)
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "x-attune-version", "retry-after", "*"} <= set(exposed)
        assert "access-control-allow-credentials" not in reply.headers
        assert ("Origin" in reply.headers["vary"]) or origins == "*"


async def test_a_page_of_another_origin_reads_nothing(door: Door) -> None:
    async with browser(door, "https://other.example") as page:
        asked = await page.options("/v1/feedback", headers=preflight("POST"))
        read = await page.get("/v1/models")
    assert asked.status_code == 403
    assert asked.json()["error"]["code"] == "origin_not_allowed"
    for reply in (asked, read):
        assert "access-control-allow-origin" not in reply.headers


async def test_metrics_that_this_machine_may_read_no_page_on_it_may(door: Door) -> None:
    async with browser(door, "*") as page:
        assert "access-control-allow-origin" in (await page.get("/v1/models")).headers
        assert "access-control-allow-origin" not in (await page.get("/metrics")).headers


def test_origins_are_read_from_one_line() -> None:
    assert parse_origins("") == ()
    assert parse_origins(" https://A.example/ , http://localhost:3000,") == (
        "https://a.example",
        "http://localhost:3000",
    )
    assert parse_origins("*") == ("*",)


@pytest.mark.parametrize("text", ["app.example", "https://a/b", "https://*.a", "https://", "x y"])
def test_what_is_no_origin_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(Invalid, match="ATTUNE_CORS_ORIGINS"):
        parse_origins(text)
