"""What a key may: every scope at every route that is mounted, and what it must not reach beside."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute
from starlette.routing import Route
from support.door import Door, open_door
from support.exports import record_export

from core.identity.types import INCLUDED, SCOPES, Scope
from feedback.receivers import receiver_at

WITHOUT_KEY = {"/openapi.json", "/docs", "/health", "/ping"}
DIGEST, BASE_DIGEST = "e" * 64, "b" * 64
MINE, OTHERS = "1" * 32, "2" * 32


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, f"sqlite:///{tmp_path / 'attune.db'}")
    adapter = opened.adapter("acme", "support")
    for number in (1, 2):
        assert opened.version(adapter, tmp_path / f"v{number}") == number
    database = opened.runtime.database
    record_export(database, opened.tenant("acme"), "support@1", DIGEST, base=BASE_DIGEST)
    yield opened
    await opened.runtime.stop()


def answer_id(door: Door) -> str:
    return "chatcmpl-" + door.runtime.signer.token(door.tenant("acme"))


def mounted(door: Door) -> Iterator[tuple[str, str, APIRoute | None]]:
    """Every method and path of ours, and vLLM's that are open to keys."""
    found: list[tuple[str, str, APIRoute | None]] = []
    for route in door.app._app.router.routes:
        path = getattr(route, "path", "")
        if path in WITHOUT_KEY or not isinstance(route, Route):
            continue
        if isinstance(route, APIRoute):
            found += [(method, path, route) for method in route.methods]
        elif path.startswith(("/v1", "/api")):
            pytest.fail(f"{path} is no route of FastAPI's: its scopes cannot be known.")
    yield from found
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"):
        yield "POST", path, None
    for path in ("/tokenize", "/detokenize", "/v1/messages/count_tokens"):
        yield "POST", path, None


def declared(route: APIRoute | None) -> set[str]:
    """The scopes of which one is needed, as the route itself says."""
    if route is None:
        return {"inference"}
    found: set[str] = set()
    todo = [route.dependant]
    while todo:
        dependant = todo.pop()
        found |= set(dependant.oauth_scopes or [])
        todo += dependant.dependencies
    return found


def allowed(held: Scope) -> set[str]:
    return {held, *INCLUDED.get(held, ())}


async def statuses(door: Door, scopes: tuple[Scope, ...]) -> dict[tuple[str, str], int]:
    """What a key of these scopes gets everywhere."""
    found = {}
    async with door.client("acme", *scopes) as client:
        for method, path, _ in mounted(door):
            url = re.sub(r"\{[^}]+\}", "unknown", path)
            response = await client.request(method, url, json={}, headers=credentials(client, path))
            found[method, path] = response.status_code
    return found


def credentials(client: httpx.AsyncClient, path: str) -> dict[str, str]:
    receiver = receiver_at(path)
    if receiver is None or receiver.auth == "bearer":
        return {}
    key = client.headers["authorization"].removeprefix("Bearer ")
    return {"authorization": "Basic " + base64.b64encode(f"me:{key}".encode()).decode()}


async def test_every_mounted_route_declares_its_scope(door: Door) -> None:
    found = [(method, path) for method, path, route in mounted(door) if not declared(route)]
    assert found == []
    assert len(list(mounted(door))) > 30


async def test_a_route_without_a_scope_would_be_seen(door: Door) -> None:
    app = door.app._app
    app.add_api_route("/v1/forgotten", lambda: None)
    assert [path for _, path, route in mounted(door) if not declared(route)] == ["/v1/forgotten"]


@pytest.mark.parametrize("held", SCOPES)
async def test_a_key_of_one_scope_opens_what_declares_it_and_nothing_else(
    door: Door, held: Scope
) -> None:
    found = await statuses(door, (held,))
    opened = {where for where, status in found.items() if status not in (401, 403)}
    meant = {
        (method, path) for method, path, route in mounted(door) if declared(route) & allowed(held)
    }
    assert opened == meant
    assert 401 not in found.values()
    assert meant


async def test_the_table_in_words(door: Door) -> None:
    """What a person would look for first, by hand: the narrow scopes at feedback and exports."""
    narrow: tuple[Scope, ...] = ("feedback:write", "feedback:read", "edge")
    table = {scope: await statuses(door, (scope,)) for scope in narrow}
    for where, who in {
        ("POST", "/v1/feedback"): {"feedback:write"},
        ("GET", "/v1/feedback"): {"feedback:read"},
        ("GET", "/v1/feedback/{feedback_id}"): {"feedback:write", "feedback:read"},
        ("DELETE", "/v1/feedback/{feedback_id}"): {"feedback:write"},
        ("POST", "/api/public/scores"): {"feedback:write"},
        ("DELETE", "/api/public/scores/{feedback_id}"): {"feedback:write"},
        ("POST", "/v1/edge/sync"): {"edge"},
        ("GET", "/v1/exports"): {"edge"},
        ("GET", "/v1/exports/{work_id}"): {"edge"},
        ("GET", "/v1/exports/{work_id}/files/{path:path}"): {"edge"},
        ("POST", "/v1/exports"): set(),
        ("GET", "/v1/adapters"): set(),
        ("GET", "/v1/models"): set(),
        ("POST", "/v1/chat/completions"): set(),
    }.items():
        opened = {scope for scope in narrow if table[scope][where] != 403}
        assert opened == who, where


async def test_the_description_names_the_scopes_each_route_declares(door: Door) -> None:
    async with door.client("acme", "inference") as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        page = (await client.get("/docs")).text
    for method, path, route in mounted(door):
        if route is not None and not route.include_in_schema:
            continue
        operation = paths[path.replace(":path}", "}")][method.lower()]
        told = [scopes for one in operation["security"] for scopes in one.values()]
        assert {scope for scopes in told for scope in scopes} == declared(route), path
        assert {len(scopes) for scopes in told} == {1}, path  # each alone is enough
    assert "<code>feedback:write</code> or <code>feedback:read</code>" in page


async def give(client: httpx.AsyncClient, about: str, **fields: Any) -> httpx.Response:
    return await client.post("/v1/feedback", json={"completion_id": about, "value": True, **fields})


async def test_a_website_key_reads_and_takes_back_only_what_it_gave(door: Door) -> None:
    about = answer_id(door)
    async with (
        door.client("acme", "feedback:write") as website,
        door.client("acme", "feedback:write") as another,
        door.client("acme", "feedback") as full,
    ):
        own = (await give(website, about)).json()["id"]
        theirs = [
            (await give(another, about)).json()["id"],
            (await give(full, about, id="fb-guessed")).json()["id"],
        ]
        assert (await website.get(f"/v1/feedback/{own}")).json()["value"] is True
        absent = await website.get("/v1/feedback/fb_nobodys")
        assert absent.status_code == 404
        for item in theirs:
            seen = await website.get(f"/v1/feedback/{item}")
            assert seen.status_code == 404
            assert seen.text == absent.text.replace("fb_nobodys", item)
            erased = await website.delete(f"/v1/feedback/{item}")
            assert (erased.status_code, erased.text) == (404, seen.text)
        assert (await website.get("/v1/feedback")).status_code == 403
        assert (await website.delete(f"/v1/feedback/{own}")).status_code == 200
        left = (await full.get("/v1/feedback")).json()["data"]
        assert {item["id"] for item in left} == set(theirs)
        for item in theirs:  # what it meant before: all of the tenant's
            assert (await full.delete(f"/v1/feedback/{item}")).status_code == 200


@pytest.mark.parametrize("same", [True, False])
async def test_no_key_writes_over_what_another_gave(door: Door, same: bool) -> None:
    about = answer_id(door)
    async with (
        door.client("acme", "feedback:write") as website,
        door.client("acme", "feedback:write", "feedback:read") as another,
        door.client("acme", "feedback") as full,
    ):
        assert (await give(website, about, id="mine", comment="So.")).status_code == 201
        said = {"value": True, "comment": "So."} if same else {"value": False}
        refused = await give(another, about, id="mine", **said)
        assert (refused.status_code, refused.json()["error"]["param"]) == (409, "id")
        kept = (await another.get("/v1/feedback/mine")).json()
        assert (kept["value"], kept["comment"]) == (True, "So.")
        assert (await another.delete("/v1/feedback/mine")).status_code == 404
        assert (await give(website, about, id="mine", value=False)).status_code == 200
        assert (await give(full, about, id="mine", value=True)).status_code == 200
        # Whoever changes it: it stays the one's who gave it.
        assert (await website.delete("/v1/feedback/mine")).status_code == 200


async def test_langfuses_scores_are_held_to_the_same(door: Door) -> None:
    about = answer_id(door)
    path = "/api/public/scores"
    score = {"id": "s-1", "traceId": about, "name": "liked", "value": 1}
    async with (
        door.client("acme", "feedback:write") as one,
        door.client("acme", "feedback:write") as other,
    ):
        one.headers.update(credentials(one, path))
        other.headers.update(credentials(other, path))
        assert (await one.post(path, json=[score])).json()["successes"][0]["status"] == 201
        (refused,) = (await other.post(path, json=[{**score, "value": 0}])).json()["errors"]
        assert (refused["status"], refused["error"]) == (409, "LangfuseConflictError")
        assert (await other.delete(f"{path}/s-1")).status_code == 404
        assert (await one.delete(f"{path}/s-1")).status_code == 200


def offline(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "seq": number,
        "type": "interaction",
        "id": f"edge-{number:024x}",
        "created_at": 1_700_000_000,
        "model_requested": "support",
        "model_answered": "support@1",
        "adapter": "support",
        "version": 1,
        "export_digest": DIGEST,
        "messages": [{"role": "user", "content": "Hi"}],
        "answer": "Hello",
        "finish_reason": "stop",
        **changes,
    }


async def sync(
    client: httpx.AsyncClient, items: list[dict[str, Any]], device: str = MINE
) -> httpx.Response:
    return await client.post("/v1/edge/sync", json={"device": device, "items": items})


BY_THE_BASE = {"model_answered": "base", "version": None}


@pytest.mark.parametrize("scope", ["edge", "feedback", "admin"])
@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({**BY_THE_BASE, "adapter": None, "export_digest": BASE_DIGEST}, True),
        ({**BY_THE_BASE, "export_digest": BASE_DIGEST}, True),  # by the base in its name
        ({"version": 2, "model_answered": "support@2"}, False),  # registered, never exported
        ({"export_digest": "d" * 64}, False),
        ({"export_digest": BASE_DIGEST}, False),  # the base beside it is not the version
        ({**BY_THE_BASE, "adapter": None}, False),
        ({**BY_THE_BASE, "adapter": None, "export_digest": "d" * 64}, False),
    ],
)
async def test_answers_are_taken_from_exports_that_exist(
    door: Door, scope: Scope, changes: dict[str, Any], taken: bool
) -> None:
    async with door.client("acme", scope) as device:
        (result,) = (await sync(device, [offline(**changes)])).json()["results"]
    assert result["status"] == ("stored" if taken else "rejected")
    if not taken:
        assert result["error"]["code"] == "export_not_found"
        assert result["error"]["param"] == "export_digest"


async def test_an_export_that_is_not_ready_has_given_nothing_out(door: Door) -> None:
    database, tenant = door.runtime.database, door.tenant("acme")
    item = offline(version=2, model_answered="support@2", export_digest="c" * 64)
    async with door.client("acme", "edge") as device:
        for state in ("failed", "cancelled", "ready"):
            record_export(database, tenant, "support@2", "c" * 64, state=state)
            (result,) = (await sync(device, [item])).json()["results"]
            assert result["status"] == ("stored" if state == "ready" else "rejected")


async def test_an_answer_of_the_base_does_not_go_by_a_versions_name(door: Door) -> None:
    async with door.client("acme", "edge") as device:
        item = offline(version=None, export_digest=BASE_DIGEST)
        (result,) = (await sync(device, [item])).json()["results"]
        assert (result["status"], result["error"]["param"]) == ("rejected", "model_answered")


async def test_another_tenants_export_is_none_of_ours(door: Door, tmp_path: Path) -> None:
    door.version(door.adapter("other", "support"), tmp_path / "theirs")
    async with door.client("other", "edge") as device:
        for item in (offline(), offline(2, adapter=None, **BY_THE_BASE)):
            (result,) = (await sync(device, [item])).json()["results"]
            assert (result["status"], result["error"]["code"]) == ("rejected", "export_not_found")
        database, tenant = door.runtime.database, door.tenant("other")
        record_export(database, tenant, "support@1", DIGEST)
        (result,) = (await sync(device, [offline()])).json()["results"]
        assert result["status"] == "stored"


async def test_a_device_key_is_the_first_devices_that_uses_it(door: Door) -> None:
    async with door.client("acme", "edge") as device:
        assert (await sync(device, [])).status_code == 200
        for _ in range(2):
            assert (await sync(device, [offline()])).status_code == 200
            refused = await sync(device, [offline(2)], OTHERS)
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                403,
                "another_device",
            )
            await door.runtime.sync.refresh()  # before and after the key is known to be bound
    async with door.client("acme", "feedback") as old:  # shared by all devices, as ever
        for name in (MINE, OTHERS):
            assert (await sync(old, [offline(3)], name)).status_code == 200


async def test_a_key_may_be_made_for_one_device(door: Door) -> None:
    key = door.runtime.tenants.create_key(door.tenant("acme"), frozenset({"edge"}), device=MINE)[1]
    async with door.client("acme", "edge") as client:
        client.headers["authorization"] = f"Bearer {key}"
        assert (await sync(client, [offline()], OTHERS)).status_code == 403
        assert (await sync(client, [offline()], MINE)).status_code == 200


async def test_a_call_out_of_form_binds_no_key(door: Door) -> None:
    async with door.client("acme", "edge") as device:
        assert (await device.post("/v1/edge/sync", json={"device": OTHERS})).status_code == 400
        assert (await sync(device, [offline()], MINE)).status_code == 200


async def test_a_device_changes_its_own_thumbs_with_its_next_key_and_nobody_elses(
    door: Door,
) -> None:
    def thumb(name: str, value: bool, at_s: float, **about: str) -> dict[str, Any]:
        said = {"completion_id": f"edge-{1:024x}", "value": value, **about}
        return {"seq": 9, "type": "feedback", "id": name, "created_at": at_s, **said}

    about = answer_id(door)
    async with door.client("acme", "edge") as first, door.client("acme", "edge") as next_key:
        (made,) = (await sync(first, [thumb("t-1", True, 5.0)])).json()["results"]
        (told,) = (await sync(next_key, [thumb("t-1", False, 6.0)])).json()["results"]
        assert [made["status"], told["status"]] == ["stored", "stored"]
    async with (
        door.client("acme", "feedback:write") as website,
        door.client("acme", "edge") as device,
    ):
        assert (await give(website, about, id="t-2")).status_code == 201
        item = thumb("t-2", False, 2e9, completion_id=about)
        (refused,) = (await sync(device, [item], OTHERS)).json()["results"]
        assert (refused["status"], refused["error"]["type"]) == ("rejected", "conflict_error")
        # Nor does the website reach what a device gave.
        assert (await website.get("/v1/feedback/t-1")).status_code == 404
        assert (await website.delete("/v1/feedback/t-1")).status_code == 404


async def test_a_device_neither_reads_feedback_nor_orders_exports(door: Door) -> None:
    async with door.client("acme", "edge") as device:
        for method, path in (
            ("GET", "/v1/feedback"),
            ("POST", "/v1/feedback"),
            ("DELETE", "/v1/feedback/x"),
            ("POST", "/v1/exports"),
            ("GET", "/v1/runs"),
        ):
            assert (await device.request(method, path, json={})).status_code == 403
        (export,) = (await device.get("/v1/exports")).json()["data"]
        assert export["model"] == "support@1"
