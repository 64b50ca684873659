"""Everything one can ask a server for: methods, odd paths, and every path vLLM has.

vLLM's are read from its source, so that they follow the release in use.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PURGE")
OPEN = {"/health", "/ping", "/version", "/load", "/metrics", "/openapi.json", "/docs"}
COUNTING = {"/tokenize", "/detokenize", "/v1/messages/count_tokens"}
OURS_TOO = "/v1/responses/"
"""Paths of vLLM's that our own routes serve."""
ODD = [
    "/", "//", "/v1", "/v1/", "//v1/models", "/v1//models", "/v1/models/", "/V1/models", "*",
    "/v1/model", "/v1/%2e%2e/adapters", "/v1/../adapters", "/v1/./models", "/v1/models%2f",
    "/v1/feedback/", "/v1/models/%2e%2e/%2e%2e/sleep", "/v1/models/../../sleep", "/v1/models%00",
    "/v1/models%0a", "/v1/models;x=1", "/docs/", "/docs/oauth2-redirect", "/redoc", "/static/x",
    "/openapi.json/", "/favicon.ico", "/robots.txt", "/.env", "/.git/config", "/etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd", "/metrics/", "/health/", "/v1/files",
    "/v1/fine_tuning/jobs", "/v1/edge", "/api/public", "/api/public/ingestion",
    "/v1/models/a/b", "/v1/%ff%fe", "/v1/" + "x" * 4000, "",
]  # fmt: skip


def vllms_paths() -> list[str]:
    """Every path that a decorator of vLLM's entrypoints names, parameters filled in."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "entrypoints"
    named = re.compile(
        r"\.(?:get|post|put|delete|patch|head|api_route|websocket|add_api_route)\(\s*\"(/[^\"]*)\""
    )
    found = {
        path for file in source.rglob("*.py") for path in named.findall(file.read_text("utf-8"))
    }
    return sorted(re.sub(r"\{[^}]+\}", "x", path) for path in found)


def refused(response: httpx.Response, *statuses: int, path: str = "") -> dict[str, Any]:
    """The error of a refusal in OpenAI's form, and in no other; of one at `path` under
    /v1/messages in Anthropic's."""
    assert response.status_code in statuses, (response.request.url, response.text)
    assert response.headers["content-type"] == "application/json"
    if response.request.method == "HEAD":
        return {"message": "", "code": ""}  # which has no body
    body = response.json()
    if re.match("/v1/messages(/|$)", path):
        assert set(body) - {"request_id"} == {"type", "error"}
        assert (body["type"], set(body["error"])) == ("error", {"type", "message"})
        return {**body["error"], "code": ""}
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert error["message"]
    return error
