"""Parameters as weapons, at a real server: the worst that is allowed and the worst that is not, and
whoever asks meanwhile is answered."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from support.tenant import Tenant

from core.identity.tenants import TenantStore

HI = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "base", "messages": HI, "max_tokens": 4}
PROMPTLY_S = 5.0  # for a structured answer, while three attack on two cores
AT_ONCE_S = 1.0  # for what needs no grammar
STALL_S = 0.5  # of the event loop, by one request; a tenth of it where nothing else runs

AWKWARD: dict[str, Any] = {
    "exclusiveMinimum of old": {"properties": {"x": {"type": "integer", "exclusiveMinimum": True}}},
    "required null": {"type": "object", "required": None},
    "tuple items": {"properties": {"x": {"type": "array", "items": [{"type": "string"}]}}},
    "any": {"properties": {"x": {"type": "any"}}},
    "empty enum": {"properties": {"x": {"enum": []}}},
    "null properties": {"type": "object", "properties": None},
    "type null": {"properties": {"x": {"type": ["string", None]}}},
    "dangling ref": {"properties": {"x": {"$ref": "#/$defs/nope"}}},
    "cyclic ref": {"$ref": "#"},
    "lookbehind": {"properties": {"x": {"type": "string", "pattern": "(?<=a)b"}}},
    "crossed bounds": {"properties": {"x": {"type": "integer", "minimum": 5, "maximum": 1}}},
    "huge number": {"properties": {"x": {"type": "integer", "maximum": 10**60}}},
}


def words(chance: random.Random, count: int, length: int) -> list[str]:
    return ["".join(chance.choices("abcdefgh ", k=length)) for _ in range(count)]


def worst(chance: random.Random) -> list[dict[str, Any]]:
    """Bodies of chat requests, each new: nothing is remembered of them."""
    slow = " ".join(["a"] * chance.randrange(300, 400))
    options = {f"{chance.random()}": {"type": "string"} for _ in range(1_500)}
    return [
        {"structured_outputs": {"choice": words(chance, 1_000, 1_000)}},
        {"structured_outputs": {"choice": words(chance, 200, 160)}},
        {"structured_outputs": {"choice": words(chance, 1_000, 32)}},
        {"structured_outputs": {"grammar": "root ::= root"}},
        {"structured_outputs": {
            "grammar": f'root ::= {slow} root | "a"\na ::= [a-z]* | b\nb ::= [a-m]* a?'}},
        {"structured_outputs": {
            "grammar": "root ::= " + " | ".join(f'"{w}"' for w in words(chance, 200, 300))}},
        {"structured_outputs": {"regex": f"(a{{1000}}){{1000}}{chance.random()}"}},
        {"structured_outputs": {"json": {"type": "object", "properties": options}}},
        {"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"enum": words(chance, 4_000, 10)}}}},
        {"tools": [function(f"f{n}", {"type": "object", "properties": {
            word: {"type": "string"} for word in words(chance, 12, 8)}}) for n in range(120)]},
        {"bad_words": words(chance, 128, 64)},
        {"bad_words": words(chance, 900, 1_000)},
        {"messages": HI * 2_000},
        {"messages": HI * 30_000},
        {"n": 128, "temperature": 1.0, "logprobs": True, "top_logprobs": 1},
    ]  # fmt: skip


def function(name: str, schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema, **more}}


@contextmanager
def attacks(attackers: list[Tenant], *, each: int = 2) -> Iterator[list[int]]:
    """Clients that send the worst there is until the block ends; the statuses they got."""
    done, statuses = threading.Event(), []

    def attack(attacker: Tenant, seed: int) -> None:
        chance = random.Random(seed)
        with attacker.http as http:
            while not done.is_set():
                for body in worst(chance):
                    if done.is_set():
                        return
                    got = http.post("/v1/chat/completions", json={**CHAT, **body})
                    statuses.append(got.status_code)

    with ThreadPoolExecutor(len(attackers) * each) as pool:
        running = [
            pool.submit(attack, attacker, number * 10 + copy)
            for number, attacker in enumerate(attackers)
            for copy in range(each)
        ]
        try:
            yield statuses
        finally:
            done.set()
    for each_one in running:
        each_one.result()


@pytest.fixture
def attackers(server: Any) -> list[Tenant]:
    names = [f"attacker-{number}-{time.monotonic_ns()}" for number in range(3)]
    return [Tenant(server, name, server.key(name)) for name in names]


def timed(ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


@pytest.mark.parametrize(
    "seconds", [12, pytest.param(60, marks=pytest.mark.drill)], ids=["brief", "long"]
)
def test_while_three_send_the_worst_there_is_a_fourth_is_answered(
    victim: Tenant, attackers: list[Tenant], seconds: int
) -> None:
    """A new schema each time, so that nothing is remembered for it; its thumbs; its keys."""
    structured, thumbs, revoked = [], [], []
    with victim.http as http, attacks(attackers) as statuses:
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            number += 1
            schema = {"type": "object", "properties": {f"field_{number}": {"type": "integer"}}}
            wish = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            body = {**CHAT, "response_format": wish}
            answer, took_s = timed(lambda b=body: http.post("/v1/chat/completions", json=b))
            assert answer.status_code == 200, answer.text
            structured.append(took_s)
            thumb = {"completion_id": answer.json()["id"], "value": True}
            stored, took_s = timed(lambda b=thumb: http.post("/v1/feedback", json=b))
            assert stored.status_code == 201
            thumbs.append(took_s)
            revoked.append(revoke_s(victim))
    assert len(statuses) > 10
    assert {200, 400} <= set(statuses) <= {200, 400, 503}
    assert max(structured) < PROMPTLY_S
    assert sorted(thumbs)[int(0.9 * len(thumbs))] < AT_ONCE_S
    assert sorted(revoked)[int(0.9 * len(revoked))] < AT_ONCE_S


def revoke_s(tenant: Tenant) -> float:
    """From a key's revocation to its refusal."""
    key = tenant.server.key(tenant.name, "inference")
    with httpx.Client(
        base_url=tenant.server.url, headers={"authorization": f"Bearer {key}"}, timeout=60
    ) as http:
        assert http.get("/v1/models").status_code == 200
        database = tenant.server.database()
        TenantStore(database).revoke_key(key)
        database.dispose()
        began = time.monotonic()
        while http.get("/v1/models").status_code != 401:
            assert time.monotonic() - began < 20
        return time.monotonic() - began


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "many messages": ("chat/completions", {"messages": HI * 2_000}),
    "odd parts": ("chat/completions", {"messages": [
        {"role": "user", "content": [{"type": "zz"}, {"type": "text"}]}] * 2_000}),
    "odd fields": ("chat/completions", {"messages": [
        {"role": "assistant", "refusal": 5, "audio": 5, "function_call": 5}] * 2_000}),
    "odd calls": ("chat/completions", {"messages": [
        {"role": "assistant", "tool_calls": [{"function": {"x": 1}}]}] * 2_000}),
    "items": ("responses", {"input": HI * 1_000}),
    "odd items": ("responses", {"input": [{"type": "zz"}] * 900}),
    "odd items of a known kind": ("responses", {"input": [
        {"type": "function_call_output", "call_id": "x", "output": [{"type": "zz"}]}] * 900}),
    "odd parts of an item": ("responses", {"input": [
        {"role": "user", "content": [{"type": "zz"}] * 3_900}]}),
    "odd tools": ("responses", {"input": "a", "tools": [{"type": "zz"}] * 256}),
    "negative ids": ("completions", {"prompt": [-1] * 262_144}),
    "ids": ("completions", {"prompt": [5] * 262_144}),
    "odd arguments": ("chat/completions", {"messages": HI, "vllm_xargs": {
        f"a{n}": [{}] * 20 for n in range(200)}}),
    "blocks": ("messages", {"messages": [{"role": "user", "content": [{"type": "zz"}] * 3_999}]}),
    "unknown fields": ("chat/completions", {
        "messages": HI, **{f"z{n}": {} for n in range(50_000)}}),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_no_body_keeps_the_server_from_answering_others(attacker: Tenant, shape: str) -> None:
    """What took seconds on the event loop: vLLM tries what is misshapen as everything it knows."""
    path, body = SHAPES[shape]
    raw = json.dumps({"model": "base", "max_tokens": 2, "max_output_tokens": 16, **body})
    begun, done, waits = threading.Event(), threading.Event(), []

    def watch() -> None:
        with httpx.Client(base_url=attacker.server.url, timeout=60) as http:
            http.get("/ping")
            begun.set()
            while not (done.is_set() and waits):
                waits.append(timed(lambda: http.get("/ping"))[1])

    with attacker.http as http, ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        begun.wait(60)
        status = http.post(f"/v1/{path}", content=raw, headers=JSON).status_code
        done.set()
        watching.result()
    assert status in (200, 400)
    assert max(waits) < STALL_S


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("awkward", AWKWARD)
def test_one_awkward_tool_does_not_kill_a_request(attacker: Tenant, awkward: str) -> None:
    schema = AWKWARD[awkward]
    good = {"type": "object", "properties": {"q": {"type": "string"}}}
    bodies = {
        "chat/completions": {**CHAT, "tools": [function("good", good), function("odd", schema)]},
        "responses": {"model": "base", "input": "Hi", "max_output_tokens": 4, "tools": [
            {"type": "function", "name": "good", "parameters": good},
            {"type": "function", "name": "odd", "parameters": schema}]},
        "messages": {**CHAT, "tools": [
            {"name": "good", "input_schema": good}, {"name": "odd", "input_schema": schema}]},
    }  # fmt: skip
    with attacker.http as http:
        for path, body in bodies.items():
            answer = http.post(f"/v1/{path}", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-attune-unconstrained-tools"] == "odd"
        forced = {**bodies["chat/completions"], "tool_choice": "required", "max_tokens": 24}
        assert http.post("/v1/chat/completions", json=forced).status_code == 200
        strict = {**CHAT, "tools": [function("good", good), function("odd", schema, strict=True)]}
        refused = http.post("/v1/chat/completions", json=strict)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "tools[1].function.parameters"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"structured_outputs": {"grammar": "root ::= root"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"structured_outputs": {"json": {"$ref": "#"}}}, "structured_outputs.json"),
        ({"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"enum": []}}}}, "response_format.json_schema.schema"),
        ({"vllm_xargs": {"kv_transfer_params": "x"}}, "vllm_xargs.kv_transfer_params"),
        ({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]},
         "messages[0].content.image_url"),
    ],
)  # fmt: skip
def test_what_was_an_error_of_the_server_is_one_of_the_client(
    attacker: Tenant, body: dict[str, Any], param: str
) -> None:
    for stream in (False, True):
        with attacker.http as http:
            refused = http.post("/v1/chat/completions", json={**CHAT, **body, "stream": stream})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == param


def test_an_empty_list_of_tools_counts_as_none(attacker: Tenant) -> None:
    with attacker.http as http:
        for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "none"}):
            body = {**CHAT, "tools": [], **choice}
            assert http.post("/v1/chat/completions", json=body).status_code == 200
        wanted = http.post(
            "/v1/chat/completions", json={**CHAT, "tools": [], "tool_choice": "required"}
        )
        assert (wanted.status_code, wanted.json()["error"]["param"]) == (400, "tool_choice")


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_stream_is_what_vllm_itself_would_send(attacker: Tenant, path: str) -> None:
    """Greedy, so that the streams differ only by what was asked for."""
    prompt = {"messages": HI} if path.startswith("chat") else {"prompt": "The ferry"}
    ask = {"model": "base", "max_tokens": 6, "temperature": 0, "stream": True, **prompt}

    def events(**options: Any) -> list[dict[str, Any]]:
        with attacker.http as http:
            text = http.post(f"/v1/{path}", json={**ask, **options}).text
        lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
        return [without_identity(json.loads(line)) for line in lines]

    counted = events(stream_options={"include_usage": True})
    fingerprint = counted.pop()["system_fingerprint"]
    for options in ({"continuous_usage_stats": True}, {"include_usage": False}, None):
        silent = events(stream_options=options)
        assert text_of(silent) == text_of(counted)
        assert all(event["choices"] and "usage" not in event for event in silent)
        assert silent[-1].keys() == {*counted[-1], "system_fingerprint"}
        assert silent[-1]["system_fingerprint"] == fingerprint
    continuous = {"include_usage": True, "continuous_usage_stats": True}
    assert all("usage" in event for event in events(stream_options=continuous))


def text_of(events: list[dict[str, Any]]) -> str:
    """Of however many events: tokens that come together share one."""
    choices = [event["choices"][0] for event in events]
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in choices)


def without_identity(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("id", "created")}
