"""Values nobody expects, at the real engine: what it answers is recorded, what is recorded can be
rated and listed, and what is taken as feedback hides nothing that came before it."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import msgspec
from support.tenant import Tenant


def nested(levels: int, leaf: Any = "x") -> Any:
    for level in range(levels):
        leaf = [leaf] if level % 2 else {"in": leaf}
    return leaf


def hello(**more: Any) -> dict[str, Any]:
    return {"role": "user", "content": "Hello", **more}


ODD: list[dict[str, Any]] = [
    {"messages": [hello(content="a\0b")]},
    {"messages": [hello(content="half \ud83d")]},
    {"messages": [hello(content=["one", "two"])]},
    {"messages": [hello(content=[])]},
    {"messages": [hello(content=None)]},
    {"messages": [hello(x=nested(60))]},
    {"messages": [hello(x=nested(97))]},
    {"messages": [hello(x=nested(120))]},
    {"messages": [hello(x=nested(700))]},
    {"messages": [hello(**{"": 1, "\0": 2, "$ref": 3})]},
    {"metadata": nested(90, {})},
    {"metadata": {"big": 10**40, "tiny": 5e-324, "\0": "\0"}},
    {"metadata": {"deep": nested(300)}},
    {"seed": 10**30},
    {"seed": 2**63 - 1},
    {"temperature": 10**400},
    {"chat_template_kwargs": {"deep": nested(95)}},
    {"chat_template_kwargs": {"deep": nested(500)}},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": nested(90, {})}}]},
    {"unknown": [nested(80), 10**100, "\u2028\ufeff\ufffe"]},
    {"user": "क्\u200dष 東京"},
    {"user": "a\u202eb"},
    {"stop": ["\0", "\ud83d"]},
    {"logit_bias": {"1": 1e400}},
]


def test_whatever_is_answered_is_recorded_and_can_be_rated(victim: Tenant) -> None:
    answered: dict[str, dict[str, Any]] = {}
    with victim.http as http:
        http.headers["content-type"] = "application/json"
        for odd in ODD:
            body = {"model": "base", "messages": [hello()], "max_tokens": 2, **odd}
            reply = http.post("/v1/chat/completions", content=json.dumps(body).encode())
            assert reply.status_code in (200, 400, 422), (odd, reply.text)
            assert "error" in reply.json() or reply.status_code == 200
            if reply.status_code == 200:
                answered[reply.json()["id"]] = body
        assert len(answered) > 8
        kept = recorded(victim)
        assert answered.keys() == kept.keys()
        for own_id, body in answered.items():
            sent = {k: v for k, v in body.items() if k not in ("model", "messages", "max_tokens")}
            assert {name: kept[own_id].get(name) for name in sent} == sent
            rated = http.post("/v1/feedback", json={"completion_id": own_id, "value": True})
            assert rated.status_code == 201
        for page in pages(http):
            assert page.status_code == 200


def test_no_feedback_makes_the_list_unreadable(attacker: Tenant) -> None:
    answer = attacker.ask("base", "Hello", max_tokens=2).id
    taken = set[str]()
    odd = [nested(levels, {}) for levels in (90, 99, 100, 101, 199, 200, 253, 254, 255, 400, 900)]
    numbers = [2**63, 2**64 - 1, 2**64, 10**300, 1e308, -0.0, 5e-324]
    texts = ["\0", "\ud83d", "\\u0000", "\u2028", "\x1b[2J", "x" * 16_380]
    with attacker.http as http:
        for value in [*odd, *numbers, *texts]:
            for field in ("metadata", "tags"):
                said = {"completion_id": answer, "value": True, field: {"m": value}}
                raw = json.dumps(said).encode()
                reply = http.post("/v1/feedback", content=raw)
                assert reply.status_code in (201, 400), (field, value)
                if reply.status_code == 201:
                    taken.add(reply.json()["id"])
        listed = [item["id"] for page in pages(http) for item in page.json()["data"]]
    assert len(taken) > 5
    assert set(listed) == taken
    assert len(listed) == len(taken)


def pages(http: Any) -> list[Any]:
    """The tenant's whole feedback, a few at a time."""
    found = [http.get("/v1/feedback", params={"limit": 3})]
    while found[-1].status_code == 200 and found[-1].json()["has_more"]:
        after = found[-1].json()["last_id"]
        found.append(http.get("/v1/feedback", params={"limit": 3, "after": after}))
    return found


def recorded(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """What lies in the database of a tenant's requests, by id: all but prompt and model."""
    database = sqlite3.connect(tenant.server.home / "attune.db")
    rows = database.execute(
        "SELECT i.id, i.request, i.sampling FROM interactions i JOIN tenants t "
        "ON t.id = i.tenant_id WHERE t.name = ?",
        (tenant.name,),
    ).fetchall()
    database.close()
    decode = msgspec.json.decode
    return {own_id: decode(request) | decode(sampling) for own_id, request, sampling in rows}
