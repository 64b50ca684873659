"""Anthropic's own client, unmodified: what it raises is what it would raise at home."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from support.tenant import Tenant

MESSAGES: Any = [{"role": "user", "content": "Where is the library?"}]


def client(tenant: Tenant, key: str | None = None) -> Anthropic:
    return Anthropic(base_url=tenant.server.url, api_key=key or tenant.key, max_retries=0)


def told(error: anthropic.APIStatusError) -> str:
    """The type in the envelope, which must be Anthropic's in every part."""
    body: Any = error.body
    assert body["type"] == "error"
    assert body["error"].keys() == {"type", "message"}
    assert body["error"]["message"]
    return str(body["error"]["type"])


def test_an_answer_names_its_request(tenant: Tenant) -> None:
    answer = client(tenant).messages.create(model="base", max_tokens=8, messages=MESSAGES)
    assert answer.content
    assert answer._request_id
    counted = client(tenant).messages.count_tokens(model="base", messages=MESSAGES)
    assert counted.input_tokens > 3


def test_what_the_door_refuses_is_the_clients_own_exception(tenant: Tenant) -> None:
    asked: dict[str, Any] = {"max_tokens": 8, "messages": MESSAGES}
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        client(tenant, "sk-at-nobody").messages.create(model="base", **asked)
    assert told(unknown.value) == "authentication_error"
    with pytest.raises(anthropic.NotFoundError) as missing:
        client(tenant).messages.create(model="nobody", **asked)
    assert told(missing.value) == "not_found_error"
    poor = tenant.server.key(tenant.name, "feedback")
    with pytest.raises(anthropic.PermissionDeniedError) as forbidden:
        client(tenant, poor).messages.create(model="base", **asked)
    assert told(forbidden.value) == "permission_error"
    big: Any = [{"role": "user", "content": "x" * 2_100_000}]
    with pytest.raises(anthropic.RequestTooLargeError) as large:
        client(tenant).messages.create(model="base", max_tokens=8, messages=big)
    assert told(large.value) == "request_too_large"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": "many"},
        {"messages": [{"role": "nobody", "content": "x"}]},
        {"messages": "x"},
        {"messages": [{"role": "user", "content": "word " * 20_000}]},
        {"temperature": 99.0},
        {"tools": [{"name": "x"}]},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_vllm_refuses_is_too(tenant: Tenant, wrong: dict[str, Any], stream: bool) -> None:
    asked: dict[str, Any] = {"model": "base", "max_tokens": 8, "messages": MESSAGES}
    with pytest.raises(anthropic.BadRequestError) as refused:
        client(tenant).messages.create(**asked, stream=stream, extra_body=wrong)
    assert told(refused.value) == "invalid_request_error"
    assert refused.value.request_id


def test_counting_is_refused_alike(tenant: Tenant) -> None:
    wrong: Any = [{"role": "nobody", "content": "x"}]
    with pytest.raises(anthropic.BadRequestError) as refused:
        client(tenant).messages.count_tokens(model="base", messages=wrong)
    assert told(refused.value) == "invalid_request_error"
