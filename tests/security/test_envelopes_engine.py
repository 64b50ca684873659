"""The same on the real server, whose framework and engine have words of their own."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.sweep import COUNTING, METHODS, ODD, OPEN, OURS_TOO, refused, vllms_paths
from support.tenant import Tenant

from core.settings import SHIPPED_MODEL
from server.answers.transcript import ENDPOINTS

HELLO = [{"role": "user", "content": "hello"}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 2},
    "/v1/completions": {"prompt": "hello", "max_tokens": 2},
    "/v1/responses": {"input": "hello", "max_output_tokens": 16},
    "/v1/messages": {"messages": HELLO, "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [1, 2]},
}
LONG = "hello " * 3_000
BLANK_IMAGE = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
WRONG: list[dict[str, Any]] = [
    {"model": "/etc/passwd"}, {"model": str(SHIPPED_MODEL)}, {"model": "base@1"},
    {"messages": []}, {"messages": "x"}, {"messages": [{"role": "x"}]}, {"messages": [7]},
    {"messages": [{"role": "user", "content": LONG}], "prompt": LONG, "input": LONG},
    {"messages": [{"role": "user", "content": [BLANK_IMAGE]}]},
    {"messages": [{"role": "user", "content": [{"type": "nothing"}]}]},
    {"prompt": [10**9], "tokens": [10**9]}, {"prompt": [], "tokens": []}, {"prompt": {"a": 1}},
    {"tokens": ["x"]}, {"tokens": [-1]}, {"input": [{"type": "nothing"}]}, {"input": {}},
    {"max_tokens": -1, "max_output_tokens": -1}, {"max_tokens": "many"}, {"max_tokens": 10**9},
    {"temperature": -5}, {"temperature": "hot"}, {"top_p": 7}, {"n": 0}, {"n": 10**6},
    {"seed": "x"}, {"stop": 7}, {"logprobs": 1000, "top_logprobs": 1000}, {"logit_bias": {"x": 1}},
    {"stream": "yes"}, {"stream_options": 7}, {"echo": "x"}, {"best_of": -1},
    {"response_format": {"type": "json_schema"}}, {"response_format": {"type": "nothing"}},
    {
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}
        }
    },
    {"structured_outputs": {"regex": "("}}, {"structured_outputs": {"grammar": "root ::= ("}},
    {"tools": [7]}, {"tools": [{"type": "function"}]}, {"tool_choice": "nothing"},
    {"chat_template": "{{ raise_exception('x') }}"},
    {"chat_template": "{% include '/etc/hosts' %}"},
    {"chat_template": "{{ cycler.__init__.__globals__ }}"}, {"chat_template": "/etc/passwd"},
    {"chat_template_kwargs": {"tokenize": 7}}, {"mm_processor_kwargs": {"x": 1}},
    {"lora_request": {"lora_path": "/etc"}}, {"prompt_embeds": "AAAA"}, {"kv_transfer_params": 7},
    {"previous_response_id": "resp_x"}, {"background": True}, {"priority": 10**30},
    {"truncate_prompt_tokens": -7}, {"allowed_token_ids": [10**9]}, {"bad_words": [7]},
    {"vllm_xargs": {"x": [1]}}, {"metadata": 7}, {"user": 7}, {"cache_salt": 7},
    {"system": 7, "instructions": 7}, {"return_token_ids": "x"}, {"min_tokens": 10**6},
]  # fmt: skip


def places(tenant: Tenant) -> list[str]:
    here = Path(__file__).parents[2]
    return [
        str(tenant.server.home), str(Path.home()), str(here), str(SHIPPED_MODEL), sys.prefix,
        "site-packages", '.py"', ".py:", "Traceback",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ASKED)
def test_whatever_is_wrong_no_place_of_the_machine_is_told(victim: Tenant, path: str) -> None:
    statuses = set()
    for wrong in WRONG:
        body = {"model": "base", **ASKED[path], **wrong}
        response = victim.http.post(path, json=body)
        statuses.add(response.status_code)
        said = response.text
        # What the caller said itself may come back to it.
        for sent in (str(SHIPPED_MODEL), "/etc/passwd"):
            said = said.replace(sent, "") if sent in json.dumps(wrong) else said
        assert not any(place in said for place in places(victim)), (wrong, response.text)
        if response.status_code >= 400:
            assert "detail" not in response.json(), (wrong, response.text)
            assert response.json()["error"]["message"], (wrong, response.text)
    assert 400 in statuses
    assert 404 in statuses
    assert victim.http.post(path, json={"model": "base", **ASKED[path]}).status_code == 200


def test_what_does_not_exist_is_404_and_a_wrong_method_405(victim: Tenant) -> None:
    served = OPEN | COUNTING | ENDPOINTS.keys() | {"/v1/models"}
    hidden = [p for p in vllms_paths() if p not in served and not p.startswith(OURS_TOO)]
    with victim.http as http:
        for path in [*hidden, *ODD]:
            if path.startswith("/") and path != "//":
                for method in ("GET", "POST", "DELETE", "OPTIONS"):
                    status, body = raw(victim, f"{method} {path} HTTP/1.1")
                    assert status in (404, 400), (method, path, body)
                    keys = set(json.loads(body)) - {"type", "request_id"}  # Anthropic's form
                    assert keys == {"error"}, (method, path, body)
        for path in sorted(OPEN | COUNTING | ENDPOINTS.keys()):
            for method in set(METHODS) - {"GET", "HEAD", "POST", "CONNECT"}:
                refused(http.request(method, path), 405, path=path)


def test_two_keys_on_the_wire_are_refused_whichever_comes_last(victim: Tenant) -> None:
    mine, other = victim.key, victim.server.key("somebody-else")
    for first, second in ((mine, other), (other, mine), (mine, mine)):
        lines = [f"Authorization: Bearer {first}", f"authorization: Bearer {second}"]
        status, body = raw(victim, "GET /v1/models HTTP/1.1", *lines)
        assert status == 400, body
        assert json.loads(body)["error"]["code"] == "duplicate_header"
    status, _ = raw(victim, "GET /v1/models HTTP/1.1", f"Authorization: Bearer {mine}")
    assert status == 200


def raw(tenant: Tenant, *lines: str) -> tuple[int, str]:
    """Status and body of a request sent as it stands."""
    address = urlsplit(tenant.server.url)
    head = "\r\n".join([*lines, "Host: server", "Connection: close", "", ""])
    with socket.create_connection((address.hostname, address.port), timeout=30) as wire:
        wire.sendall(head.encode("latin-1"))
        answer = b"".join(iter(lambda: wire.recv(65_536), b""))
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), body.decode()


def test_an_id_behind_another_prefix_is_no_answers(victim: Tenant) -> None:
    """The ids are the engine's answers' own, of every endpoint."""
    with victim.http as http:
        for path in ENDPOINTS:
            answer = http.post(path, json={"model": "base", **ASKED[path]}).json()["id"]
            token = answer[-40:]
            for prefix in ("chatcmpl-", "cmpl-", "resp_"):
                said = http.post(
                    "/v1/feedback", json={"completion_id": prefix + token, "value": True}
                )
                wanted = 201 if prefix + token == answer else 404
                assert said.status_code == wanted, (path, prefix, said.text)


def test_the_client_reads_the_refusals(victim: Tenant) -> None:
    response = httpx.put(f"{victim.server.url}/v1/chat/completions", json={})
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
