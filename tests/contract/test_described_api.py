"""The API is as it describes itself: valid OpenAPI, and 300 odd calls that all end as it says."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.door import Door, open_door

from deploy.kinds import KINDS
from feedback.receivers import receiver_at
from server.answers.transcript import ENDPOINTS
from server.routes import attach

pytestmark = pytest.mark.slow

CASES = 300
CONTRARY = ("inference_id", "episode_id", "comparison", "correction", "metric_name", "user", "id")
"""Fields of feedback that, made up by chance, forbid one another."""
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def door(
    loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("home")
    opened = loop.run_until_complete(open_door(home, f"sqlite:///{home / 'attune.db'}"))
    for name in ("0", "support"):
        adapter = opened.adapter("acme", name)
        opened.version(adapter, home / f"pushed-{name}", live=True)
    yield opened
    loop.run_until_complete(opened.runtime.stop())


@pytest.fixture(scope="module")
def client(loop: asyncio.AbstractEventLoop, door: Door) -> Iterator[httpx.AsyncClient]:
    made = door.client("acme", "inference", "feedback", "train")
    yield made
    loop.run_until_complete(made.aclose())


@pytest.fixture(scope="module")
def document(loop: asyncio.AbstractEventLoop, door: Door) -> dict[str, Any]:
    transport = httpx.ASGITransport(app=door.app)

    async def read() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as stranger:
            return await stranger.get("/openapi.json")

    found: dict[str, Any] = loop.run_until_complete(read()).json()
    return found


def ours(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation that we answer ourselves."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] not in ("engine", "health"):
                yield path, method, operation


def test_the_description_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_every_endpoint_of_ours_tells_its_key_its_refusals_and_what_it_does(
    document: dict[str, Any],
) -> None:
    found = list(ours(document))
    assert len(found) > 20
    for path, method, operation in found:
        assert operation["security"], (method, path)
        assert "4XX" in operation["responses"], (method, path)
        assert operation["description"], (method, path)
        assert "422" not in operation["responses"]


def test_what_the_engine_answers_is_described_and_the_rest_of_it_is_not(
    document: dict[str, Any],
) -> None:
    assert ENDPOINTS.keys() <= document["paths"].keys()
    assert not any("lora" in path or "sleep" in path for path in document["paths"])


def test_an_apps_own_description_gives_way_to_ours() -> None:
    app = FastAPI()

    @app.get("/v1/load_lora_adapter")
    def internal() -> None:
        """Of vLLM's own."""

    attach(app, KINDS)

    async def read() -> list[str]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return [(await client.get(path)).text for path in ("/openapi.json", "/docs")]

    for text in asyncio.run(read()):
        assert "/v1/feedback" in text
        assert "load_lora_adapter" not in text
        assert "http://" not in text.replace("http://server", "")
        assert "https://" not in text


def test_300_odd_calls_end_as_described(
    document: dict[str, Any], loop: asyncio.AbstractEventLoop, door: Door, client: httpx.AsyncClient
) -> None:
    """Half of them well formed, half not; every other one names what exists."""
    schema = schemathesis.openapi.from_dict(document)
    operations = [(path, method) for path, method, _ in ours(document)]
    answer = "chatcmpl-" + door.runtime.signer.token(door.tenant("acme"))
    statuses: Counter[int] = Counter()
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)

    def send(case: schemathesis.Case) -> None:
        if statuses.total() % 2:
            acquaint(case, answer)
        sent = case.as_transport_kwargs(base_url="http://server")
        headers = {**(sent["headers"] or {}), "authorization": credentials(client, case.path)}
        asked = requests.Request(**{**sent, "headers": headers}).prepare()
        response = loop.run_until_complete(
            client.request(
                str(asked.method),
                str(asked.url),
                content=asked.body or b"",
                headers=dict(asked.headers),
            )
        )
        statuses[response.status_code] += 1
        seen[case.method, case.path].add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    for path, method in operations:
        try_out(schema[path][method], -(-CASES // len(operations)), send)
    assert statuses.total() >= CASES
    assert not statuses.keys() & {401, 403}
    taken = {"/v1/feedback", "/v1/edge/sync", "/api/public/scores", "/v1/adapters"}
    for path in taken:  # not every call may end as a refusal, or nothing is shown
        assert any(status < 300 for status in seen["POST", path]), path


def try_out(operation: Any, count: int, send: Callable[[schemathesis.Case], None]) -> None:
    """Call one operation in `count` ways, the same in every run."""
    good = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    bad = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    limits = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(1)(limits(given(case=good | bad)(send)))()


def acquaint(case: schemathesis.Case, answer: str) -> None:
    """Have a case speak of an answer and an adapter that exist, or of a new one, and of a thumb."""
    if "name" in case.path_parameters:
        case.path_parameters["name"] = "support"
    if case.path == "/v1/adapters" and isinstance(case.body, dict):
        case.body.pop("scope", None)  # most subjects fit no scope drawn beside them
        case.body.pop("subject", None)
    about = {"/v1/feedback": "completion_id", "/api/public/scores": "traceId"}.get(case.path)
    if about is not None and isinstance(case.body, dict):
        case.body |= {about: answer, "name": "thumb", "value": True}
        for name in CONTRARY:
            case.body.pop(name, None)


def credentials(client: httpx.AsyncClient, path: str) -> str:
    """The client's key as the path takes it."""
    bearer = client.headers["authorization"]
    receiver = receiver_at(path)
    if receiver is None or receiver.auth == "bearer":
        return bearer
    return "Basic " + base64.b64encode(f"me:{bearer.removeprefix('Bearer ')}".encode()).decode()
