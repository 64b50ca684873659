"""Langfuse's scores: what its SDK sends becomes feedback, what cannot be taken is told its way."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from support.door import Door, open_door
from support.stored import count

from core.ids import FeedbackId
from feedback.tables import feedback
from feedback.types import Feedback

pytestmark = pytest.mark.slow  # a server for each test

SCORES = "/api/public/scores"


@pytest_asyncio.fixture
async def door(tmp_path: Path, database_url: str) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, database_url)
    yield opened
    await opened.runtime.stop()


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def langfuse(door: Door, tenant: str = "acme", *scopes: Any) -> httpx.AsyncClient:
    """A client that sends a new key as Langfuse's SDK does."""
    client = door.client(tenant, *scopes)
    key = client.headers["authorization"].removeprefix("Bearer ")
    client.headers.update(basic("pk-lf-anything", key))
    return client


def answer(door: Door, tenant: str = "acme") -> str:
    """The id of an answer given to the tenant."""
    return "chatcmpl-" + door.runtime.signer.token(door.tenant(tenant))


def score(trace: str, value: Any = 1.0, **fields: Any) -> dict[str, Any]:
    return {"id": "s-1", "traceId": trace, "name": "user-feedback", "value": value, **fields}


def stored(door: Door, score_id: str = "s-1") -> Feedback:
    return door.runtime.feedback.get(door.tenant("acme"), FeedbackId(score_id))


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        ("BOOLEAN", 1, True),
        ("BOOLEAN", 0.0, False),
        ("BOOLEAN", True, True),
        ("NUMERIC", 1.0, True),
        ("NUMERIC", 0, False),
        ("NUMERIC", 0.25, 0.25),
        ("NUMERIC", -1, -1.0),
        (None, 4.5, 4.5),
        (None, 1.0, True),
        ("CATEGORICAL", "up", True),
        ("CATEGORICAL", "good", True),
        ("CATEGORICAL", "Like", True),
        ("CATEGORICAL", "down", False),
        ("CATEGORICAL", "bad", False),
        (None, "dislike", False),
    ],
)
async def test_a_score_becomes_a_thumb_or_a_number(
    door: Door, kind: str | None, value: Any, taken: bool | float
) -> None:
    async with langfuse(door) as client:
        sent = score(answer(door), value, comment="So.", metadata={"page": 3}, timestamp="now")
        if kind is not None:
            sent["dataType"] = kind
        response = await client.post(SCORES, json=[sent])
    assert response.status_code == 207
    assert response.json() == {"successes": [{"id": "s-1", "status": 201}], "errors": []}
    item = stored(door)
    assert (item.value, type(item.value)) == (taken, type(taken))
    assert (item.name, item.comment, item.metadata) == ("user-feedback", "So.", {"page": 3})
    assert item.completion_id == sent["traceId"]


async def test_a_single_score_is_taken_like_a_list_of_one(door: Door) -> None:
    async with langfuse(door) as client:
        response = await client.post(SCORES, json=score(answer(door)))
    assert response.json()["successes"] == [{"id": "s-1", "status": 201}]
    assert stored(door).value is True


async def test_the_same_id_again_updates(door: Door) -> None:
    about = answer(door)
    async with langfuse(door) as client:
        for value, status in ((1, 201), (1, 200), (0, 200)):
            response = await client.post(SCORES, json=[score(about, value)])
            assert response.json()["successes"] == [{"id": "s-1", "status": status}]
    assert stored(door).value is False


async def test_an_observation_may_carry_the_answers_id(door: Door) -> None:
    about = answer(door)
    async with langfuse(door) as client:
        sent = score("0af7651916cd43dd8448eb211c80319c", observationId=about)
        await client.post(SCORES, json=[sent])
        assert stored(door).completion_id == about
        await client.post(SCORES, json=[score(about, id="s-2", observationId="b7ad6b7169203331")])
        assert stored(door, "s-2").completion_id == about


@pytest.mark.parametrize(
    ("fields", "status", "error", "word"),
    [
        ({"traceId": "0af7651916cd43dd8448eb211c80319c"}, 404, "LangfuseNotFoundError", "id"),
        ({"traceId": None, "sessionId": "s"}, 400, "InvalidRequestError", "traceId"),
        ({"value": "blue", "dataType": "CATEGORICAL"}, 400, "InvalidRequestError", "like"),
        ({"value": "Better.", "dataType": "TEXT"}, 400, "InvalidRequestError", "dataType"),
        ({"value": 0.5, "dataType": "BOOLEAN"}, 400, "InvalidRequestError", "0 or 1"),
        ({"value": "up", "dataType": "NUMERIC"}, 400, "InvalidRequestError", "dataType"),
        ({"value": None}, 400, "InvalidRequestError", "dataType"),
        ({"name": ""}, 400, "InvalidRequestError", "name"),
        ({"id": "no such id"}, 400, "InvalidRequestError", "id"),
        ({"comment": "nul \0"}, 400, "InvalidRequestError", "NUL"),
        ({"metadata": {"a": "x" * 20_000}}, 400, "InvalidRequestError", "metadata"),
    ],
)
async def test_a_score_that_cannot_be_taken_is_an_error_of_its_own(
    door: Door, fields: dict[str, Any], status: int, error: str, word: str
) -> None:
    bad = score(answer(door), id="bad") | fields
    async with langfuse(door) as client:
        response = await client.post(SCORES, json=[bad, score(answer(door)), 7])
    assert response.status_code == 207
    said = response.json()
    assert said["successes"] == [{"id": "s-1", "status": 201}]
    assert (said["accepted"], said["rejected"]) == (1, 2)
    refused = said["errors"][0]
    assert (refused["id"], refused["status"], refused["error"]) == (bad["id"], status, error)
    assert word in refused["message"]


async def test_an_answer_given_to_another_tenant_does_not_exist(door: Door) -> None:
    async with langfuse(door) as client:
        response = await client.post(SCORES, json=[score(answer(door, "other"))])
    assert response.json()["errors"][0]["status"] == 404


async def test_a_score_is_erased_once(door: Door) -> None:
    async with langfuse(door) as client:
        await client.post(SCORES, json=score(answer(door)))
        assert (await client.delete(f"{SCORES}/s-1")).status_code == 200
        again = await client.delete(f"{SCORES}/s-1")
    assert (again.status_code, again.json()["error"]) == (404, "LangfuseNotFoundError")
    assert count(door.runtime.database, feedback, door.tenant("acme")) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("pk-lf-1", "sk-lf-1"),
        basic("pk-lf-1", f"sk-at-{'a' * 12}-{'b' * 48}"),
        {"authorization": "Basic !!"},
        {"authorization": "Basic " + base64.b64encode(b"\xff").decode()},
    ],
)
async def test_a_wrong_key_is_401_in_langfuses_shape(door: Door, headers: dict[str, str]) -> None:
    transport = httpx.ASGITransport(app=door.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        response = await client.post(SCORES, json=[], headers=headers)
    assert response.status_code == 401
    assert response.json()["error"] == "UnauthorizedError"
    assert response.json()["message"]


async def test_a_key_without_the_scope_is_403_in_langfuses_shape(door: Door) -> None:
    async with langfuse(door, "acme", "inference") as client:
        response = await client.post(SCORES, json=[])
    assert (response.status_code, response.json()["error"]) == (403, "ForbiddenError")


async def test_basic_auth_opens_no_other_path(door: Door) -> None:
    async with langfuse(door) as client:
        for path in ("/v1/feedback", "/v1/models", "/v1/adapters"):
            assert (await client.get(path)).status_code == 401


async def test_a_call_with_too_many_scores_is_refused_whole(door: Door) -> None:
    async with langfuse(door) as client:
        response = await client.post(SCORES, json=[score(answer(door))] * 201)
        nothing = await client.post(SCORES, content=b"{")
    assert (response.status_code, nothing.status_code) == (400, 400)
    assert "200" in response.json()["message"]
    assert nothing.json()["error"] == "InvalidRequestError"
