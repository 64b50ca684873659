"""A way in for feedback is one file and one line; so is an endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest_asyncio
from fastapi import Depends, FastAPI
from pydantic import BaseModel, WrapValidator
from support.door import Door, open_door

from core.bodies import Body
from core.errors import AttuneError
from core.identity.types import ApiKey
from core.ids import CompletionId, FeedbackId
from core.settings import Settings
from feedback.receivers import RECEIVERS
from feedback.receivers.base import Caller, Receiver, Result, alone
from feedback.types import Feedback
from server.routes import ROUTERS, attach
from server.routes.common import key_with, new_router

# The one file of a receiver:


class Star(Body):
    """A star for an answer."""

    id: str
    answer: str
    stars: int


class Stars(Body):
    """Some stars."""

    stars: list[Annotated[Star, WrapValidator(alone)]]


class Counted(BaseModel):
    """How many were taken."""

    taken: int
    refused: list[str]


class Oops(BaseModel):
    """An error as the toy knows it."""

    oops: str


class ToyReceiver(Receiver[Stars]):
    """Stars from a toy."""

    name = "toy"
    path = "/toy/stars"
    body = Stars
    answer = Counted
    statuses = ((202, "Counted."),)
    auth = "basic"

    def items(self, sent: Stars) -> Sequence[Star | Result]:
        """Each star."""
        return sent.stars

    def read(self, item: Star, sent: Stars, caller: Caller) -> Feedback:
        """A score by the name of stars."""
        return Feedback(
            id=FeedbackId(item.id),
            tenant_id=caller.tenant_id,
            created_at_s=caller.now_s,
            completion_id=CompletionId(item.answer),
            name="stars",
            value=float(item.stars),
        )

    def respond(self, sent: Stars, results: Sequence[Result]) -> tuple[int, BaseModel]:
        """Counted."""
        refused = [result.error.message for result in results if result.error]
        return 202, Counted(taken=len(results) - len(refused), refused=refused)

    def refusal(self, error: AttuneError) -> BaseModel:
        """In the toy's shape."""
        return Oops(oops=error.message)


# The one file of an endpoint:

router = new_router("toys")


@router.get("/v1/models/{model}/toy")
def get_toy(model: str, key: Annotated[ApiKey, Depends(key_with("feedback"))]) -> Counted:
    """A toy."""
    return Counted(taken=len(model), refused=[])


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    RECEIVERS.append(ToyReceiver())  # the one line
    ROUTERS.append(router)  # the one line
    try:
        opened = await open_door(tmp_path, f"sqlite:///{tmp_path / 'attune.db'}")
        yield opened
        await opened.runtime.stop()
    finally:
        RECEIVERS.pop()
        ROUTERS.pop()


async def test_feedback_arrives_through_a_receiver_of_one_file_and_one_line(door: Door) -> None:
    answer = "chatcmpl-" + door.runtime.signer.token(door.tenant("acme"))
    sent: dict[str, Any] = {
        "stars": [
            {"id": "a", "answer": answer, "stars": 4},
            {"id": "b", "answer": "chatcmpl-unknown", "stars": 4},
            {"id": "c", "answer": answer, "stars": "many"},
        ]
    }
    async with door.client("acme", "feedback") as client:
        response = await client.post("/toy/stars", json=sent)
        wrong = await client.post("/toy/stars", json={"moons": []})
        described = (await client.get("/openapi.json")).json()["paths"]["/toy/stars"]["post"]
        client.headers["authorization"] = "Basic bm9ib2R5Om5vdGhpbmc="
        stranger = await client.post("/toy/stars", json=sent)
    assert response.status_code == 202
    assert response.json()["taken"] == 1
    assert "chatcmpl-unknown" in response.json()["refused"][0]
    assert door.runtime.feedback.get(door.tenant("acme"), FeedbackId("a")).value == 4.0
    assert (wrong.status_code, wrong.json()) == (
        400,
        {"oops": "Unknown field 'moons'. Known: stars."},
    )
    assert (stranger.status_code, set(stranger.json())) == (401, {"oops"})
    assert described["security"] == [{"HTTPBasic": ["feedback:write"]}]
    assert described["description"] == "Stars from a toy."


async def test_an_endpoint_is_a_router_and_one_line(door: Door) -> None:
    async with door.client("acme", "feedback") as client:
        assert (await client.get("/v1/models/ball/toy")).json()["taken"] == 4
        assert "/v1/models/{model}/toy" in (await client.get("/openapi.json")).json()["paths"]
    async with door.client("acme", "inference") as client:
        assert (await client.get("/v1/models/ball/toy")).status_code == 403


def test_a_receiver_may_take_more_than_the_server_allows_elsewhere() -> None:
    routes = {route.path: route for route in attach(FastAPI(), [])}
    for usual in (1_000, 10**9):
        settings = Settings(max_body_bytes=usual)
        assert routes["/v1/edge/sync"].limit_bytes(settings) == max(usual, 4_000_000)
        assert routes["/v1/feedback"].limit_bytes(settings) == usual
