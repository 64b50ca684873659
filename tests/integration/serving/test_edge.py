"""Edge export on the real server: a pushed adapter goes out as files, offline thumbs come home."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.edge import answered, note
from support.exports import record_export
from support.tenant import Tenant
from typer.testing import CliRunner

from core.identity.tenants import TenantStore
from deploy.cli.app import app
from deploy.demo.world.questions import answer, ask
from deploy.edge.http import Patience, Server
from deploy.edge.manifest import check_files, read_manifest
from deploy.edge.pull import Puller
from deploy.edge.store import Store
from deploy.edge.sync import Report, sync

DEVICE = "ab" * 16
DIGEST = "e" * 64
EXPORT_TIMEOUT_S = 300


def test_a_pushed_adapter_is_exported_verified_downloaded_and_whole(
    tenant: Tenant, other_tenant: Tenant, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """The stock command over HTTP; the session's own trainer builds."""
    assert tenant.push("support", adapters["beta"]).status_code == 201
    out = tmp_path / "export"
    command = ["export", "support", "--precision", "fp32", "--url", tenant.server.url]
    done = CliRunner().invoke(app, [*command, "--key", tenant.key, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    export = json.loads(done.stdout)
    assert (export["state"], export["model"], export["layout"]) == ("ready", "support@1", "merged")
    manifest = read_manifest(out)
    check_files(out, manifest)
    assert sorted(export["downloaded"]) == sorted(manifest.files)
    assert manifest.model.name == "support@1"
    assert manifest.verification is not None
    assert manifest.verification.passed
    assert manifest.verification.greedy_equal >= 0.98
    again = tenant.http.post(
        "/v1/exports", json={"model": "support@1", "layout": "merged", "precision": "fp32"}
    )
    assert (again.status_code, again.json()["id"]) == (200, export["id"])
    graph = f"/v1/exports/{export['id']}/files/model/model.onnx"
    part = tenant.http.get(graph, headers={"range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, (out / "model/model.onnx").read_bytes()[100:])
    assert part.headers["etag"].strip('"') == manifest.files["model/model.onnx"].sha256
    key = tenant.server.key(tenant.name, "edge")
    device = Server(tenant.server.url, key, Patience(say=lambda _: None))
    puller = Puller(tmp_path / "device", device)
    assert puller.pull("support", None, None) == ["support@1"]
    assert read_manifest(tmp_path / "device") == manifest
    for path in (f"/v1/exports/{export['id']}", graph):
        assert other_tenant.http.get(path).status_code == 404
    assert 'attune_exports{state="ready"}' in tenant.http.get("/metrics").text


def export_of(tenant: Tenant, model: str, digest: str) -> None:
    """Have the tenant's device own a model."""
    database = tenant.server.database()
    owner = TenantStore(database).by_name(tenant.name)
    record_export(database, owner.id, model, digest)
    database.dispose()


def test_500_offline_answers_sent_twice_and_cut_off_start_one_run(tenant: Tenant) -> None:
    """Twenty calls break off at random, before or after the server has them; items are doubled."""
    body = {"name": "support", "learning": {"min_minority": 3, "new_items": 500}}
    assert tenant.http.post("/v1/adapters", json=body).status_code == 201
    export_of(tenant, "base", DIGEST)
    rng = random.Random(15)
    items = offline(rng, 500)
    cuts = 20
    waiting = list(items)
    while waiting:
        call = rng.sample(waiting, min(100, len(waiting)))
        call += rng.choices(items, k=10)
        sent = {"device": DEVICE, "items": call}
        how = rng.choice(("before", "after")) if cuts else None
        cuts -= how is not None
        if how == "before":
            continue
        results = tenant.http.post("/v1/edge/sync", json=sent).json()["results"]
        if how == "after":
            continue  # the device never learnt of it
        assert {result["status"] for result in results} <= {"stored", "already_stored"}
        done = {item["id"] for item in call}
        waiting = [item for item in waiting if item["id"] not in done]
    feedback, after = [], {}
    while True:
        page = tenant.http.get("/v1/feedback", params={"limit": 200, "adapter": "support", **after})
        feedback += page.json()["data"]
        if not page.json()["has_more"]:
            break
        after = {"after": page.json()["last_id"]}
    assert len(feedback) == len({item["id"] for item in feedback}) == 500
    run = wait_for_run(tenant)
    assert run["trigger"].startswith("500 new")
    events = tenant.http.get(f"/v1/runs/{run['id']}/events?limit=200").json()["data"]
    message = next(event for event in events if "Snapshot" in event["message"])
    assert message["data"]["labels_up"] + message["data"]["labels_down"] > 300
    tenant.http.post(f"/v1/runs/{run['id']}/cancel")  # that it learns is others' test


def test_a_wrong_key_or_scope_or_anothers_adapter_stores_nothing(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    tenant.http.post("/v1/adapters", json={"name": "support"})
    export_of(tenant, "base", DIGEST)
    body = {"device": DEVICE, "items": offline(random.Random(1), 1)[:1]}
    url = f"{tenant.server.url}/v1/edge/sync"
    inference = tenant.server.key(tenant.name, "inference")
    for key, status in (("sk-at-wrong", 401), (inference, 403)):
        refused = httpx.post(url, json=body, headers={"authorization": f"Bearer {key}"})
        assert refused.status_code == status
    (foreign,) = other_tenant.http.post("/v1/edge/sync", json=body).json()["results"]
    assert (foreign["status"], foreign["error"]["type"]) == ("rejected", "not_found_error")
    (stored,) = tenant.http.post("/v1/edge/sync", json=body).json()["results"]
    assert stored["status"] == "stored"  # for the first time: nothing came of the others


def test_what_a_device_kept_is_taken_by_the_real_server(tenant: Tenant, tmp_path: Path) -> None:
    export_of(tenant, "base", answered(0).export_digest)
    store = Store(tmp_path / "edge.db")
    for number in range(3):
        store.add_answer(answered(number))
        store.put_note(note(number))
    store.add_answer(answered(9, adapter="unknown"))
    server = Server(tenant.server.url, tenant.key, Patience(say=lambda _: None))
    report = Report()
    sync(store, tmp_path, server, report)
    assert (report.rejected, report.left) == (1, 0)
    store.close()
    assert len(tenant.http.get("/v1/feedback").json()["data"]) == 3


@pytest.mark.parametrize("model", ["nothing", "support@7", "auto", "../base"])
def test_an_unknown_version_is_not_exported(tenant: Tenant, model: str) -> None:
    refused = tenant.http.post("/v1/exports", json={"model": model})
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")


def offline(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Answers of the base for the adapter `support`, each with a thumb up for one style."""
    items: list[dict[str, Any]] = []
    for number in range(count):
        question = ask(rng, "train")
        liked = number % 3 == 0
        edge_id = f"edge-{rng.getrandbits(128):032x}"
        about = {
            "seq": 2 * number + 1,
            "type": "interaction",
            "id": edge_id,
            "created_at": time.time() - 1000 + number,
            "model_requested": "support",
            "model_answered": "base",
            "adapter": "support",
            "version": None,
            "export_digest": DIGEST,
            "messages": [{"role": "user", "content": question.text}],
            "answer": answer(question, "pirate" if liked else "formal", rng),
            "finish_reason": "stop",
            "user": f"user-{number}",
        }
        thumb = {
            "seq": 2 * number + 2,
            "type": "feedback",
            "id": f"fb-{edge_id}",
            "completion_id": edge_id,
            "created_at": time.time() - 400 + number / 2,
            "value": liked,
            "name": "thumb",
        }
        items += [about, thumb]
    return items


def wait_for_run(tenant: Tenant) -> dict[str, Any]:
    """The tenant's only run, once it has frozen what it learns from."""
    deadline = time.monotonic() + 120
    while True:
        runs = tenant.http.get("/v1/runs").json()["data"]
        if runs and runs[0]["snapshot"] is not None:
            assert len(runs) == 1
            return dict(runs[0])
        assert time.monotonic() < deadline, f"no run began: {runs}"
        time.sleep(0.1)
