"""Errors under /v1/messages, in Anthropic's envelope whoever refuses; elsewhere as ever."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from support.asgi import Door, Reply

from core.errors import (
    AttuneError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from server.errors import error_response

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
BODY = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def anthropics(reply: Reply) -> dict[str, str]:
    """The error in the only form there may be."""
    said = json.loads(reply.body)
    assert said.keys() - {"request_id"} == {"type", "error"}
    assert said["type"] == "error"
    assert said["error"].keys() == {"type", "message"}
    assert int(reply.headers[b"content-length"]) == len(reply.body)
    assert reply.headers[b"content-type"].startswith(b"application/json")
    error: dict[str, str] = said["error"]
    return error


async def test_what_the_door_refuses(door: Door) -> None:
    cases: list[tuple[Any, str | None, str, int, str]] = [
        (b"{", None, "POST", 400, "invalid_request_error"),
        ({"messages": []}, None, "POST", 400, "invalid_request_error"),
        (BODY, "", "POST", 401, "authentication_error"),
        (BODY, "sk-at-nobody", "POST", 401, "authentication_error"),
        ({**BODY, "model": "nobody"}, None, "POST", 404, "not_found_error"),
        ({**BODY, "x": "y" * 20_000}, None, "POST", 413, "request_too_large"),
    ]
    for path, (body, key, method, status, kind) in product((MESSAGES, COUNT), cases):
        reply = await door.call(path, body, key=key, method=method)
        assert reply.status == status
        error = anthropics(reply)
        assert error["type"] == kind
        assert len(error["message"]) > 20


async def test_a_key_without_the_scope_and_an_endpoint_that_is_not_there(door: Door) -> None:
    poor = door.new_key("feedback")
    assert anthropics(await door.call(MESSAGES, BODY, key=poor))["type"] == "permission_error"
    batches = await door.call("/v1/messages/batches", {})
    assert (batches.status, anthropics(batches)["type"]) == (404, "not_found_error")


KINDS = {
    400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large",
    422: "invalid_request_error", 429: "rate_limit_error", 500: "api_error", 501: "api_error",
    503: "overloaded_error", 529: "overloaded_error",
}  # fmt: skip
FORMS: list[Any] = [
    {"error": {"message": "no room", "type": "BadRequestError", "param": "x", "code": 400}},
    {"type": "error", "error": {"type": "BadRequestError", "message": "no room"}},
]


async def test_what_vllm_refuses_there_in_either_of_its_forms(door: Door) -> None:
    for path, form, (status, kind) in product((MESSAGES, COUNT), FORMS, KINDS.items()):
        door.vllm.status, door.vllm.document = status, form
        reply = await door.call(path, BODY)
        assert reply.status == status
        named = "x: no room" if "param" in form["error"] else "no room"
        assert anthropics(reply) == {"type": kind, "message": named}
        assert reply.headers[b"request-id"] in reply.body
    assert door.recorded() == []


@pytest.mark.parametrize("document", ["away", None, [], {"detail": "x"}, {"error": "x"}])
async def test_a_refusal_in_no_form_is_one_in_this(door: Door, document: Any) -> None:
    door.vllm.status, door.vllm.document = 500, document
    assert anthropics(await door.call(MESSAGES, BODY))["type"] == "api_error"


async def test_an_error_in_mid_stream_has_a_type_that_clients_know(door: Door) -> None:
    failed = {"type": "error", "error": {"type": "internal_error", "message": "it broke"}}
    door.vllm.chunks = [
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{}}}\n\n',
        b"event: error\ndata: " + json.dumps(failed).encode() + b"\n\n",
    ]
    reply = await door.call(MESSAGES, {**BODY, "stream": True})
    first, last = reply.body.decode().strip().split("\n\n")
    assert first.startswith("event: message_start")
    event, data = last.split("\n")
    assert event == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert told == {"type": "error", "error": {"type": "api_error", "message": "it broke"}}
    assert [kept.outcome for kept in door.recorded()] == ["failed"]


async def test_an_answer_is_left_as_it_is_and_its_request_id_is_where_clients_look(
    door: Door,
) -> None:
    door.vllm.document = {"type": "message", "content": [{"type": "text", "text": "Hi"}]}
    reply = await door.call(MESSAGES, BODY)
    assert json.loads(reply.body) == door.vllm.document
    assert reply.headers[b"request-id"] == reply.headers[b"x-request-id"]


async def test_other_endpoints_keep_openais_form(door: Door) -> None:
    door.vllm.status = 404
    door.vllm.document = {"error": {"message": "m", "type": "t", "param": None, "code": 404}}
    reply = await door.chat()
    assert json.loads(reply.body) == door.vllm.document
    assert b"request-id" not in reply.headers
    assert (await door.chat("nobody")).error["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Invalid, "invalid_request_error"), (Unauthenticated, "authentication_error"),
        (Forbidden, "permission_error"), (NotFound, "not_found_error"),
        (Conflict, "invalid_request_error"), (TooLarge, "request_too_large"),
        (Unavailable, "overloaded_error"), (AttuneError, "api_error"),
    ],
)  # fmt: skip
def test_every_kind_of_error_has_a_name_there(kind: type[AttuneError], told: str) -> None:
    said = json.loads(bytes(error_response(kind("why"), COUNT).body))
    assert said == {"type": "error", "error": {"type": told, "message": "why"}}
