"""/v1/exports, with everything real behind it but the building."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from support.door import Door, open_door

from core.work.ledger import Ledger
from deploy.export.request import EXPORT, ExportFile

pytestmark = pytest.mark.slow

GRAPH = bytes(range(256)) * 1000
TOKENIZER = b'{"vocab": []}'


@pytest_asyncio.fixture
async def door(tmp_path: Path, database_url: str) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, database_url)
    yield opened
    await opened.runtime.stop()


async def ask(client: httpx.AsyncClient, model: Any = "support", **fields: Any) -> httpx.Response:
    return await client.post("/v1/exports", json={"model": model, **fields})


def finish(door: Door, folder: Path, export_id: str) -> None:
    """What the trainer does at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for path, content in (("model/model.onnx", GRAPH), ("model/tokenizer.json", TOKENIZER)):
        (folder / "blob").write_bytes(content)
        digest = door.runtime.artifacts.put_file(folder / "blob")
        files.append(ExportFile(path, digest, len(content)))
    exports = Ledger(door.runtime.database, EXPORT)
    exports.finish(export_id, "ready", manifest={"format": 1}, files=tuple(files))


async def test_an_export_is_queued_once_and_given_again_when_ready(
    door: Door, tmp_path: Path
) -> None:
    adapter = door.adapter("acme", "support")
    door.version(adapter, tmp_path / "v1", live=True)
    async with door.client("acme", "train") as client:
        first = await ask(client, layout="merged", precision="fp32")
        assert first.status_code == 202
        export = first.json()
        assert (export["object"], export["state"], export["progress"]) == ("export", "queued", 0)
        assert (export["model"], export["adapter"], export["version"]) == (
            "support@1",
            "support",
            1,
        )
        again = await ask(client, "support@1", layout="merged", precision="fp32")
        assert (again.status_code, again.json()["id"]) == (202, export["id"])
        finish(door, tmp_path / "files", export["id"])
        done = await ask(client, layout="merged", precision="fp32")
        assert (done.status_code, done.json()["id"]) == (200, export["id"])
        assert done.json()["state"] == "ready"
        assert done.json()["manifest"] == {"format": 1}
        other = await ask(client, layout="base+adapters", precision="fp32")
        assert other.status_code == 202
        lost = door.runtime.artifacts.file(hashlib.sha256(GRAPH).hexdigest())  # type: ignore[arg-type]
        lost.write_bytes(GRAPH[::-1])
        anew = await ask(client, layout="merged", precision="fp32")
        assert anew.status_code == 202
        assert anew.json()["id"] != export["id"]


async def test_files_are_downloaded_whole_or_from_where_it_broke_off(
    door: Door, tmp_path: Path
) -> None:
    async with door.client("acme", "train") as client:
        export = (await ask(client, "base")).json()
        assert (export["model"], export["adapter"], export["version"]) == ("base", None, None)
        early = await client.get(f"/v1/exports/{export['id']}/files/model/model.onnx")
        assert early.status_code == 409
        finish(door, tmp_path / "files", export["id"])
    digest = hashlib.sha256(GRAPH).hexdigest()
    async with door.client("acme", "feedback") as device:  # what devices carry
        seen = (await device.get(f"/v1/exports/{export['id']}")).json()
        assert seen["files"][0] == {
            "path": "model/model.onnx",
            "sha256": digest,
            "size_bytes": len(GRAPH),
        }
        url = f"/v1/exports/{export['id']}/files/model/model.onnx"
        whole = await device.get(url)
        assert (whole.status_code, whole.content) == (200, GRAPH)
        assert whole.headers["etag"] == f'"{digest}"'
        assert whole.headers["content-length"] == str(len(GRAPH))
        rest = await device.get(url, headers={"range": "bytes=1000-", "if-range": f'"{digest}"'})
        assert (rest.status_code, rest.content) == (206, GRAPH[1000:])
        changed = await device.get(url, headers={"range": "bytes=9-", "if-range": '"other"'})
        assert changed.status_code == 200
        beyond = await device.get(url, headers={"range": f"bytes={len(GRAPH)}-"})
        assert beyond.status_code == 416
        head = await device.head(url)
        assert (head.status_code, head.content) == (200, b"")
        door.runtime.artifacts.file(digest).write_bytes(b"damaged")  # type: ignore[arg-type]
        assert (await device.get(url)).status_code == 503


@pytest.mark.parametrize(
    "path",
    ["nothing", "model", "../secrets", "..%2f..%2fattune.db", "/etc/passwd", "model//model.onnx"],
)
async def test_a_path_that_is_not_in_the_record_does_not_exist(
    door: Door, tmp_path: Path, path: str
) -> None:
    async with door.client("acme", "train") as client:
        export = (await ask(client, "base")).json()
        finish(door, tmp_path / "files", export["id"])
        found = await client.get(f"/v1/exports/{export['id']}/files/{path}")
    assert found.status_code == 404


async def test_an_adapter_stands_for_all_of_its_versions_in_a_list(
    door: Door, tmp_path: Path
) -> None:
    adapter = door.adapter("acme", "support")
    for number in (1, 2):
        door.version(adapter, tmp_path / f"v{number}", live=True)
    async with door.client("acme", "train") as client:
        made = [(await ask(client, name)).json() for name in ("support@1", "support@2", "base")]

        async def listed(query: str) -> list[str]:
            found = (await client.get(f"/v1/exports?{query}")).json()["data"]
            return [export["model"] for export in found]

        assert [export["model"] for export in made] == ["support@1", "support@2", "base"]
        assert await listed("model=support") == ["support@2", "support@1"]
        assert await listed("model=support%402") == ["support@2"]
        assert await listed("model=base") == ["base"]
        assert await listed("model=suppor_") == await listed("model=sup") == []
        assert await listed("model=support&state=queued") == ["support@2", "support@1"]
        assert await listed("model=support&state=ready") == []


async def test_another_tenants_export_reads_like_one_that_does_not_exist(
    door: Door, tmp_path: Path
) -> None:
    adapter = door.adapter("acme", "support")
    door.version(adapter, tmp_path / "v1", live=True)
    async with door.client("acme", "train") as client:
        export = (await ask(client)).json()
        finish(door, tmp_path / "files", export["id"])
    async with door.client("other") as stranger:
        for method, path in (
            ("GET", "/v1/exports/{}"),
            ("GET", "/v1/exports/{}/files/model/model.onnx"),
            ("POST", "/v1/exports/{}/cancel"),
        ):
            foreign = await stranger.request(method, path.format(export["id"]))
            absent = await stranger.request(method, path.format("exp_" + "0" * 24))
            assert (foreign.status_code, absent.status_code) == (404, 404)
            assert foreign.text.replace(export["id"], "exp_" + "0" * 24) == absent.text
        foreign, absent = await ask(stranger, "support@1"), await ask(stranger, "nobody@1")
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "model_not_found")
        assert foreign.text.replace("support", "nobody") == absent.text
        assert (await stranger.get("/v1/exports")).json()["data"] == []


@pytest.mark.parametrize("where", ["/%00", "?after=%00", "?model=%00", "/exp_1/files/%00"])
async def test_an_address_with_a_nul_is_refused_before_any_database(door: Door, where: str) -> None:
    async with door.client("acme", "train") as client:
        assert (await client.get(f"/v1/exports{where}")).status_code == 400


async def test_only_what_exists_and_can_be_exported_is_taken(door: Door, tmp_path: Path) -> None:
    adapter = door.adapter("acme", "support")
    door.version(adapter, tmp_path / "v1", state="rejected")
    async with door.client("acme", "train") as client:
        nothing_live = await ask(client, "support")
        assert nothing_live.status_code == 409
        assert "support@N" in nothing_live.json()["error"]["message"]
        assert (await ask(client, "support@1")).status_code == 202  # named, so meant
        for model in ("support@2", "nothing", "auto", "support@0", "Support", "../x"):
            missing = await ask(client, model)
            assert (missing.status_code, missing.json()["error"]["param"]) == (404, "model")
        for model in (None, 7, ""):
            assert (await ask(client, model)).status_code == 400
        layout = await ask(client, "base", layout="flat")
        assert (layout.status_code, layout.json()["error"]["param"]) == (400, "layout")
        assert "merged, base+adapters" in layout.json()["error"]["message"]
        precision = await ask(client, "base", precision=["int8"])
        assert (precision.status_code, precision.json()["error"]["param"]) == (400, "precision")
        assert "fp32, int8, int4" in precision.json()["error"]["message"]
        assert (await ask(client, "base", colour="red")).status_code == 400
        assert (await client.get("/v1/exports", params={"state": "odd"})).status_code == 400


async def test_scopes_say_who_may_look_and_who_may_order(door: Door) -> None:
    async with door.client("acme", "train") as trainer:
        export = (await ask(trainer, "base")).json()
    async with door.client("acme", "feedback") as device:
        assert (await ask(device, "base")).status_code == 403
        assert (await device.post(f"/v1/exports/{export['id']}/cancel")).status_code == 403
        assert (await device.get("/v1/exports")).status_code == 200
    async with door.client("acme", "inference") as app:
        assert (await app.get("/v1/exports")).status_code == 403
        assert (await app.get(f"/v1/exports/{export['id']}")).status_code == 403


async def test_exports_are_cancelled_and_failures_show_their_numbers(door: Door) -> None:
    async with door.client("acme", "train") as client:
        first = (await ask(client, "base")).json()
        cancelled = (await client.post(f"/v1/exports/{first['id']}/cancel")).json()
        assert cancelled["state"] == "cancelled"
        assert cancelled["finished_at"] is not None
        second = (await ask(client, "base")).json()
        assert second["id"] != first["id"]
        exports = Ledger(door.runtime.database, EXPORT)
        exports.finish(second["id"], "failed", error="argmax agreement 0.81, needed 0.97")
        seen = (await client.get(f"/v1/exports/{second['id']}")).json()
        assert (seen["state"], seen["files"]) == ("failed", [])
        assert seen["error"] == "argmax agreement 0.81, needed 0.97"
        refused = await client.post(f"/v1/exports/{second['id']}/cancel")
        assert refused.status_code == 409
        third = await ask(client, "base")
        assert (third.status_code, third.json()["state"]) == (202, "queued")
        listed = (await client.get("/v1/exports", params={"limit": 2})).json()
        assert [e["id"] for e in listed["data"]] == [third.json()["id"], second["id"]]
        assert listed["has_more"] is True
        rest = await client.get("/v1/exports", params={"after": listed["last_id"]})
        assert [e["id"] for e in rest.json()["data"]] == [first["id"]]
        failed = await client.get("/v1/exports", params={"state": "failed", "model": "base"})
        assert [e["id"] for e in failed.json()["data"]] == [second["id"]]
