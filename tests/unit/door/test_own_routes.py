"""Our own routes behind the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.asgi import Door
from support.stored import stored_answer


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("POST", "/v1/adapters/support/activate", b"", {"version": 10**30}),
        ("POST", "/v1/adapters/support/activate", b"", {"version": 1, "generation": 10**30}),
        ("POST", "/v1/adapters/support/activate", b"", {"version": 1, "generation": True}),
        ("POST", "/v1/adapters/support/activate", b"", {"version": 1.5}),
        ("POST", "/v1/adapters/a%00b/activate", b"", {"version": 1}),
        ("POST", "/v1/adapters", b"", {"name": "x", "scope": ["user"], "subject": "a"}),
        ("POST", "/v1/adapters", b"", {"name": "x", "scope": "user", "subject": "a\x00"}),
        ("POST", "/v1/adapters", b"", {"name": "x", "learning": {"exploration": 2}}),
        ("POST", "/v1/adapters", b"", {"name": "../x"}),
        ("POST", "/v1/adapters/support/versions", b"", {}),
        ("GET", "/v1/adapters/a\x00b", b"", None),
        ("GET", "/v1/feedback", "limit=²".encode(), None),
        ("GET", "/v1/feedback", b"limit=%C2%B2", None),
        ("GET", "/v1/feedback", b"limit=0", None),
        ("GET", "/v1/runs", b"limit=" + b"9" * 5000, None),
        ("GET", "/v1/runs/run_x/events", b"after=%C2%B2", None),
        ("POST", "/v1/runs", b"", {"adapter": "\x00"}),
        ("GET", "/v1/models/nobody", b"", None),
    ],
)  # fmt: skip
async def test_odd_values_are_the_callers_mistake_not_the_servers(
    door: Door, tmp_path: Path, method: str, path: str, query: bytes, body: Any
) -> None:
    door.push("support", tmp_path / "a")
    raw = b"" if body is None else body
    reply = await door.call(path, raw, method=method, query=query)
    assert 400 <= reply.status < 500
    assert set(reply.error) == {"message", "type", "param", "code"}


async def test_feedback_is_taken_for_answers_given_to_this_tenant_only(door: Door) -> None:
    completion_id = (await door.chat()).headers[b"x-request-id"].decode()
    item = {"completion_id": completion_id, "value": True}
    assert (await door.call("/v1/feedback", item)).status == 201
    stranger = door.new_key("feedback", tenant="stranger")
    assert (await door.call("/v1/feedback", item, key=stranger)).status == 404
    forged = {"completion_id": "chatcmpl-" + "0" * 40, "value": True}
    assert (await door.call("/v1/feedback", forged)).status == 404
    kept = stored_answer(door.runtime.database, completion_id)
    assert kept.answers == ("Hello",)
