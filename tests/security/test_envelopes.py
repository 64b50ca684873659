"""Whatever is asked in whatever manner: refused in one envelope, with no word of the machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import httpx
import pytest
import pytest_asyncio
from fastapi import Depends
from support.door import Door, open_door
from support.exports import record_export
from support.sweep import COUNTING, METHODS, ODD, OPEN, OURS_TOO, refused, vllms_paths

from core.identity.types import ApiKey
from core.settings import SHIPPED_MODEL
from core.work.ledger import Ledger
from deploy.export.request import EXPORT, ExportFile
from server.answers.completion_ids import PREFIXES
from server.answers.transcript import ENDPOINTS
from server.routes import ROUTERS
from server.routes.common import key_with, new_router


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, f"sqlite:///{tmp_path / 'attune.db'}")
    opened.version(opened.adapter("acme", "support"), tmp_path / "v1", live=True)
    for path in (*vllms_paths(), "/v1/chat/completions"):  # reached, they would answer

        @opened.app._app.api_route(path, methods=["GET", "POST"], include_in_schema=False)
        def reached() -> dict[str, str]:
            return {"reached": "vllm"}

    yield opened
    await opened.runtime.stop()


async def as_it_comes(app: Any, method: str, path: str, key: bytes) -> httpx.Response:
    """The answer to a path that no client has put in order before it was sent."""
    messages: list[Any] = []
    scope = {
        "type": "http", "method": method, "path": unquote(path, errors="replace"),
        "raw_path": path.encode(), "query_string": b"", "headers": [(b"authorization", key)],
        "client": ("10.0.0.9", 1), "server": ("server", 80), "scheme": "http", "root_path": "",
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return httpx.Response(
        messages[0]["status"],
        headers=messages[0]["headers"],
        content=b"".join(message.get("body", b"") for message in messages[1:]),
        request=httpx.Request(method, "http://server/"),
    )


def test_vllms_paths_are_found() -> None:
    found = vllms_paths()
    assert len(found) > 40
    assert {"/v1/load_lora_adapter", "/sleep", "/collective_rpc", "/v1/responses/x"} <= set(found)


@pytest.mark.parametrize("with_key", [True, False])
async def test_what_does_not_exist_is_404_for_every_method(door: Door, with_key: bool) -> None:
    served = OPEN | COUNTING | ENDPOINTS.keys() | {"/v1/models"}
    hidden = [p for p in vllms_paths() if p not in served and not p.startswith(OURS_TOO)]
    async with door.client("acme", "admin") as client:
        key = client.headers["authorization"].encode() if with_key else b"Bearer x"
        for path in [*hidden, *ODD]:
            for method in METHODS:
                response = await as_it_comes(door.app, method, path, key)
                assert "reached" not in response.text
                error = refused(response, 404, path=path)
                assert method == "HEAD" or "/docs" in error["message"]


async def test_what_exists_tells_the_methods_it_takes(door: Door) -> None:
    taken = {path: {"GET"} for path in OPEN} | {
        path: {"POST"} for path in COUNTING | ENDPOINTS.keys()
    }
    taken |= {"/health": {"GET", "HEAD"}, "/ping": {"GET", "HEAD", "POST"}}
    async with door.client("acme", "admin") as client:
        described = (await client.get("/openapi.json")).json()["paths"]
        for path, operations in described.items():
            if path not in taken:
                taken[path] = {method.upper() for method in operations}
        taken["/v1/exports/{work_id}/files/{path}"].add("HEAD")
        assert len(taken) > 30
        for path, methods in taken.items():
            for method in set(METHODS) - methods:
                url = re.sub(r"\{[^}]+\}", "x", path)
                response = await client.request(method, url, content=b"{}")
                if path.startswith("/api/public"):
                    assert response.status_code == 405
                    if method != "HEAD":
                        assert set(response.json()) == {"message", "error"}  # as its clients read
                else:
                    assert refused(response, 405, path=path)["code"] in ("method_not_allowed", "")
                assert set(response.headers["allow"].split(", ")) == methods, path


async def test_what_the_app_refuses_by_itself_has_our_form_too(door: Door) -> None:
    """The door lets these through; an app without them answers in its framework's form."""
    app = door.app._app
    app.router.routes[:] = [r for r in app.router.routes if getattr(r, "path", "") != "/load"]
    async with door.client("acme", "admin") as client:
        refused(await client.get("/load"), 404)


TROUBLE: dict[str, tuple[Exception, int]] = {
    "a file": (PermissionError(13, "Permission denied", "/srv/attune/blobs/ab"), 503),
    "an error of the system": (OSError("cannot map /srv/attune/blobs/ab"), 503),
    "a fault of ours": (KeyError("/srv/attune/attune.db"), 500),
    "a value": (ValueError("SELECT secret FROM /srv/attune"), 500),
    "a library's": (RuntimeError("File at path /srv/attune/x does not exist."), 500),
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_whatever_fails_in_a_route_is_told_in_our_words_alone(
    tmp_path: Path, trouble: str
) -> None:
    error, status = TROUBLE[trouble]
    router = new_router("toys")

    @router.get("/v1/toys")
    def fail(key: Annotated[ApiKey, Depends(key_with("inference"))]) -> None:
        """Fail."""
        raise error

    ROUTERS.append(router)
    try:
        opened = await open_door(tmp_path, f"sqlite:///{tmp_path / 'attune.db'}")
    finally:
        ROUTERS.pop()
    async with opened.client("acme", "inference") as client:
        response = await client.get("/v1/toys")
    await opened.runtime.stop()
    told = refused(response, status)
    assert "log" in told["message"]
    assert "srv" not in response.text
    assert "SELECT" not in response.text


async def test_a_body_out_of_form_is_400_in_our_envelope(door: Door) -> None:
    async with door.client("acme", "admin") as client:
        for path in ("/v1/feedback", "/v1/adapters", "/v1/exports", "/v1/runs", "/v1/edge/sync"):
            for body in (b"{", b"[]", b"null", b'"x"', b"\xff", b"{}", b'{"a":1}', b"[" * 10_000):
                refused(await client.post(path, content=body), 400)
        for path in ("/v1/feedback", "/v1/exports", "/v1/runs"):
            refused(await client.get(path, params={"limit": "many"}), 400)


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "x-api-key", "host", "content-length", "content-type",
        "transfer-encoding", "x-attune-domain", "x-attune-conversation",
    ],
)  # fmt: skip
@pytest.mark.parametrize("same", [True, False])
async def test_a_header_that_decides_comes_once(door: Door, name: str, same: bool) -> None:
    async with door.client("acme", "inference") as client, door.client("other", "admin") as other:
        first = client.headers["authorization"]
        second = first if same else other.headers["authorization"]
        values = {"authorization": (first, second), "content-length": ("0", "0" if same else "1")}
        one, two = values.get(name, ("a", "a" if same else "b"))
        for path in ("/v1/models", "/health", "/v1/nothing"):
            for order in ((one, two), (two, one)):
                headers = [(name, value) for value in order]
                if name != "authorization":
                    headers.append(("authorization", first))
                request = httpx.Request("GET", f"http://server{path}", headers=headers)
                error = refused(await client.send(request), 400)
                assert (error["param"], error["code"]) == (name, "duplicate_header")
                assert "once" in error["message"]


async def test_two_keys_in_two_headers_are_refused_and_one_in_both_is_taken(door: Door) -> None:
    async with door.client("acme", "inference") as client, door.client("other", "admin") as other:
        mine, theirs = (
            one.headers["authorization"].removeprefix("Bearer ") for one in (client, other)
        )
        for first, second in ((mine, theirs), (theirs, mine), (mine, "x"), ("x", mine)):
            headers = {"authorization": f"Bearer {first}", "x-api-key": second}
            error = refused(await client.get("/v1/models", headers=headers), 401)
            assert "one of them" in error["message"]
        headers = {"authorization": f"Bearer {mine}", "x-api-key": mine}
        assert (await client.get("/v1/models", headers=headers)).status_code == 200
        score = {"authorization": "Basic " + base64.b64encode(f"a:{mine}".encode()).decode()}
        both = await client.post("/api/public/scores", headers={**score, "x-api-key": theirs})
        assert (both.status_code, both.json()["error"]) == (401, "UnauthorizedError")


@pytest.mark.parametrize(
    "value",
    [
        b"", b"Bearer", b"Bearer ", b"bearer \x00", b"Bearer sk-at-\xe9", b"Bearer a, Bearer b",
        b"Basic \xff", b"Digest x", b"\xf0\x9f\x94\x91", b"Bearer " + b"x" * 60_000,
    ],
)  # fmt: skip
async def test_a_key_of_any_bytes_is_401(door: Door, value: bytes) -> None:
    async with door.client("acme", "inference") as client:
        for path in ("/v1/models", "/v1/feedback"):
            request = httpx.Request(
                "GET", f"http://server{path}", headers=[(b"authorization", value)]
            )
            refused(await client.send(request), 401)


@pytest.mark.parametrize("endpoint", PREFIXES)
async def test_an_id_behind_another_prefix_is_no_answers(door: Door, endpoint: str) -> None:
    token = door.runtime.signer.token(door.tenant("acme"), endpoint)
    async with door.client("acme", "feedback:write") as client:
        for prefix in {*PREFIXES.values(), "", "msg_", "chatcmpl-chatcmpl-"}:
            about = prefix + token
            right = prefix == PREFIXES[endpoint]
            said = await client.post("/v1/feedback", json={"completion_id": about, "value": True})
            if right:
                assert said.status_code == 201
            else:
                assert refused(said, 404)["code"] == "completion_not_found"
            compared = {
                "comparison": {"preferred": about, "rejected": [PREFIXES[endpoint] + token]}
            }
            if not right:
                refused(await client.post("/v1/feedback", json=compared), 404)


async def test_an_id_of_an_earlier_release_counts_where_its_answer_is_recorded(
    door: Door,
) -> None:
    """Its signature says nothing of the prefix; the record does."""
    signer, tenant = door.runtime.signer, door.tenant("acme")
    token = "0" * 24 + signer._mac("0" * 24, tenant)
    async with door.client("acme", "feedback") as client:
        about = {"completion_id": f"cmpl-{token}", "value": True}
        refused(await client.post("/v1/feedback", json=about), 404)
        door.runtime.interactions.append([answered(f"cmpl-{token}", tenant)])
        assert (await client.post("/v1/feedback", json=about)).status_code == 201
        wrong = {"completion_id": f"chatcmpl-{token}", "value": True}
        refused(await client.post("/v1/feedback", json=wrong), 404)


def answered(completion_id: str, tenant_id: Any) -> Any:
    from feedback.types import Interaction

    return Interaction(
        id=completion_id, tenant_id=tenant_id, endpoint="completions", created_at_s=1.0,
        outcome="completed", model_requested="base", model_answered="base", adapter_id=None,
        version=None, explored=False, prompt="Hi", answers=("Hello",), finish_reason="stop",
    )  # type: ignore[arg-type]  # fmt: skip


def places(home: Path) -> list[str]:
    """Texts that name a place of this machine; none of them is in any path of the API."""
    here = Path(__file__).parents[2]
    return [str(home), home.name, str(Path.home()), str(here), str(SHIPPED_MODEL), "site-packages"]


async def test_trouble_with_files_names_no_place_of_the_machine(door: Door, tmp_path: Path) -> None:
    """Gone, damaged, unreadable: what is said of it helps, and says not where it lay."""
    database, tenant = door.runtime.database, door.tenant("acme")
    content = tmp_path / "content"
    content.write_bytes(b"x" * 100)
    digest = door.runtime.artifacts.put_file(content)
    file = ExportFile("model/model.onnx", digest, 100)
    exports = Ledger(database, EXPORT)
    export_id = record_export(database, tenant, "support@1", "e" * 64)
    made, _ = exports.open(tenant, "whole", exports.find(export_id).facts)
    exports.finish(made.id, "ready", files=(file,))
    blob = door.runtime.artifacts.file(digest)
    url = f"/v1/exports/{made.id}/files/model/model.onnx"
    said: list[str] = []
    async with door.client("acme", "train", "edge") as client:
        assert (await client.get(url)).status_code == 200
        for header in ("bytes=500-", "bytes=9-2", "lines=1-2", "bytes", "bytes=x-y", "bytes=-0"):
            response = await client.get(url, headers={"range": header})
            refused(response, 400, 416)
            if response.status_code == 416:
                assert response.headers["content-range"] == "bytes */100"
            said.append(response.text)
        for trouble in ("damaged", "a folder", "gone"):
            if trouble == "damaged":
                blob.write_bytes(b"y" * 100)
            elif trouble == "a folder":
                blob.unlink()
                blob.mkdir()
            else:
                blob.rmdir()
            response = await client.get(url)
            refused(response, 404, 503)
            said.append(response.text)
        (door.runtime.settings.home / "artifacts" / "staging").rename(tmp_path / "elsewhere")
        (door.runtime.settings.home / "artifacts" / "staging").write_text("in the way")
        files = [
            ("file", (name, b"{}")) for name in ("adapter_config.json", "adapter_model.safetensors")
        ]
        response = await client.post("/v1/adapters/support/versions", files=files)
        refused(response, 400, 503)
        said.append(response.text)
    for text in said:
        assert not any(place in text for place in places(tmp_path)), text


JUNK = [b"", b"{}", b"x" * 100, b"\xff" * 100, (2**40).to_bytes(8, "little"), b"\x80\x04K\x01."]
HEADERS = [
    {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**9]}},
    {"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}},
    {"../../a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    {"a": 7},
]


async def test_an_upload_of_whatever_kind_is_refused_without_a_place(
    door: Door, tmp_path: Path
) -> None:
    made = [json.dumps(header).encode() for header in HEADERS]
    weights = JUNK + [len(text).to_bytes(8, "little") + text + b"\0" * 4 for text in made]
    configs = [*JUNK, b'{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}', b"[" * 999]
    names = ("adapter_config.json", "adapter_model.safetensors")
    async with door.client("acme", "train") as client:
        for config, tensors in [(configs[-2], one) for one in weights] + [
            (one, weights[-1]) for one in configs
        ]:
            files = [
                ("file", (name, sent)) for name, sent in zip(names, (config, tensors), strict=True)
            ]
            response = await client.post("/v1/adapters/support/versions", files=files)
            refused(response, 400)
            assert not any(place in response.text for place in places(tmp_path)), response.text
        for form in (b"", b"--x", b"--x\r\n\r\n\r\n--x--", b"\xff"):
            for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "text/plain"):
                response = await client.post(
                    "/v1/adapters/support/versions", content=form, headers={"content-type": kind}
                )
                refused(response, 400)


async def test_why_a_version_does_not_load_names_no_place(door: Door, tmp_path: Path) -> None:
    """What is shown of a failed load is the store's own reason."""
    runtime = door.runtime
    adapter = runtime.registry.get(door.tenant("acme"), "support")
    version = runtime.registry.version(adapter.id, 1)
    folder = runtime.artifacts.folder(version.digest)
    reasons = []
    for trouble in ("damaged", "a file missing", "gone"):
        if trouble == "damaged":
            (folder / "adapter_config.json").write_text("{}")
        elif trouble == "a file missing":
            (folder / "adapter_config.json").unlink()
        else:
            folder.rename(tmp_path / "elsewhere")
        with pytest.raises(Exception) as failed:
            runtime.artifacts.check(version.digest)
        reasons.append(str(failed.value))
    for reason in reasons:
        assert version.digest in reason or "adapter_config.json" in reason
        assert not any(place in reason for place in places(tmp_path)), reason
