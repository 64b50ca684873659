"""Our own routes behind the door."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asgi import Door, Reply
from support.stored import stored_answer

from adapters.artifacts.digest import ADAPTER_FILES

CONFIG, WEIGHTS = ADAPTER_FILES


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


async def upload(door: Door, files: list[tuple[str, bytes]]) -> Reply:
    form = [("file", (name, content)) for name, content in files]
    request = httpx.Request("POST", "http://server", files=form)
    kind = [(b"content-type", request.headers["content-type"].encode())]
    return await door.call("/v1/adapters/support/versions", request.read(), headers=kind)


@pytest.mark.parametrize("name", [f"../{CONFIG}", f"/tmp/{CONFIG}", f"a/{CONFIG}", "a\\..\\b", ""])
async def test_only_plain_file_names_are_taken(door: Door, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a"
    door.push("support", folder)
    config, weights = ((folder / file).read_bytes() for file in ADAPTER_FILES)
    reply = await upload(door, [(name, config), (WEIGHTS, weights)])
    assert (reply.status, reply.error["param"]) == (400, "file")
    assert (await upload(door, [(CONFIG, config), (WEIGHTS, weights)])).status == 201


async def test_nothing_is_taken_beside_the_two_files(door: Door, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    door.push("support", folder)
    sound = [(file, (folder / file).read_bytes()) for file in ADAPTER_FILES]
    for name, content in (("adapter_model.bin", pickle.dumps({"a": 1})), sound[0]):
        assert (await upload(door, [*sound, (name, content)])).status == 400
    assert (await upload(door, sound)).status == 201
