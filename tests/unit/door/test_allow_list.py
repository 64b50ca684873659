"""What may be asked at all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from support.asgi import Door

from deploy.kinds import KINDS
from server.door.gateway import Gateway
from server.own_route import OwnRoute
from server.routes import attach

HIDDEN = [
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/invocations", "/sleep",
    "/wake_up", "/scale_elastic_ep", "/is_scaling_elastic_ep", "/collective_rpc", "/pause",
    "/resume", "/reset_prefix_cache", "/server_info", "/start_profile", "/redoc",
    "/v1/embeddings", "/pooling", "/score", "/rerank", "/inference/v1/generate", "/tokenizer_info",
    "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "/V1/models",
    "/v1/chat/completions/../../load_lora_adapter", "/v1/./models", "/v1/modelsx", "/v1/model",
    "/v1/chat/completions\x00", "/v1/chat/completions\n", "/v1/models\n", "/metrics/", "/", "",
    "/%2e%2e/v1/models", "/v1/responses/", "/v1/responses/resp_1/x", "/health/x",
    "/v1/audio/transcriptions", "/tokenize/", "/v2/rerank", "/v1/feedback2", "/generate",
]  # fmt: skip  # fmt: skip


@pytest.mark.parametrize("path", HIDDEN)
async def test_nothing_of_vllm_that_is_not_listed_exists(door: Door, path: str) -> None:
    for method in ("GET", "POST"):
        reply = await door.call(path, {"model": "base"}, method=method)
        assert reply.status == 404
        assert reply.error["type"] == "not_found_error"
    assert door.vllm.asked == []


@pytest.mark.parametrize(
    "path", ["/v1/models/../load_lora_adapter", "/v1/models/x/y", "/v1/feedback/../../sleep"]
)
async def test_our_own_prefixes_lead_nowhere_else(door: Door, path: str) -> None:
    assert (await door.call(path, method="GET")).status == 404
    assert (await door.call(path, {})).status in (404, 405)
    assert door.vllm.asked == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize", "/v1/messages"])
async def test_inference_is_asked_by_post_alone(door: Door, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert (await door.call(path, {"model": "base"}, method=method)).status == 405
    assert door.vllm.asked == []


async def test_health_needs_no_key_and_metrics_not_from_afar(door: Door) -> None:
    assert (await door.call("/health", key="", method="GET")).status == 200
    assert (await door.call("/metrics", key="", method="GET")).status == 401
    door.runtime.settings.metrics_token = "secret"
    for given, status in ((b"Bearer secret", 200), (b"Bearer x", 401), (b"secret", 401)):
        headers = [(b"authorization", given)]
        reply = await door.call("/metrics", key="", headers=headers, method="GET")
        assert reply.status == status


async def test_websockets_are_closed(door: Door) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await door.gateway({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
    assert [m["type"] for m in sent] == ["websocket.close"]
    assert door.vllm.asked == []


async def test_before_the_server_is_ready_it_says_so(door: Door) -> None:
    door.gateway = Gateway(door.vllm, lambda: None, [])
    assert (await door.chat()).status == 503


@pytest.mark.parametrize(
    "path", ["/v1/adapters/a/b", "/v1/runs/x/y", "/v1/edge", "/v1/exports/x/y", "/v1/feedback/"]
)
async def test_under_our_own_prefixes_only_our_routes_exist(door: Door, path: str) -> None:
    """The door knows the routes themselves: nothing else of the app is reached through a prefix."""
    reply = await door.call(path, method="GET")
    assert (reply.status, reply.error["type"]) == (404, "not_found_error")
    assert door.vllm.asked == []


async def test_the_description_of_the_api_needs_no_key_and_is_ours_or_none(door: Door) -> None:
    """vLLM's app has the same paths, with routes that nobody here may know of."""
    described = [OwnRoute("/openapi.json", re.compile(r"^/openapi\.json$"), frozenset({"GET"}))]
    for known, status in ((described, 200), ([], 404)):
        door.gateway = Gateway(door.vllm, lambda: door.runtime, known)
        reply = await door.call("/openapi.json", key="", method="GET")
        assert reply.status == status


def test_what_of_the_app_has_one_of_our_paths_gives_way() -> None:
    app = FastAPI()

    @app.get("/v1/models")
    async def theirs() -> None: ...

    own = attach(app, KINDS)
    assert theirs not in [route.endpoint for route in app.routes if isinstance(route, APIRoute)]
    assert {route.path for route in own} >= {"/v1/models", "/v1/feedback", "/v1/adapters"}
