"""A page's script at the real server: vLLM's own CORS is gone, ours is around everything."""

from __future__ import annotations

import httpx
import pytest
from support.tenant import Tenant

PAGE = "https://app.example"


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1/feedback", "/v1/models", "/health"]
)
def test_a_preflight_is_answered_once_and_without_a_key(tenant: Tenant, path: str) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    with httpx.Client(base_url=tenant.server.url) as page:
        reply = page.options(path, headers={"origin": PAGE, **asked})
        other = page.options(path, headers={"origin": "https://evil.example", **asked})
    assert reply.status_code == 200
    assert reply.headers.get_list("access-control-allow-origin") == [PAGE]
    assert other.status_code == 403
    assert other.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in other.headers


def test_answers_streams_and_refusals_are_readable(tenant: Tenant) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    with tenant.http as page:
        page.headers["origin"] = PAGE
        replies = [
            page.post("/v1/chat/completions", json=body),
            page.post("/v1/chat/completions", json=body | {"stream": True}),
            page.post("/v1/chat/completions", json=body | {"temperature": 99}),
            page.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer x"}),
            page.post("/v1/messages", json={}),
            page.get("/nowhere"),
        ]
    assert [reply.status_code for reply in replies] == [200, 200, 400, 401, 400, 404]
    for reply in replies:
        assert reply.headers.get_list("access-control-allow-origin") == [PAGE]
        assert "x-attune-version" in reply.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in reply.headers
    assert replies[0].headers["x-attune-version"] == "base"
