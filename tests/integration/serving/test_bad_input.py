"""Bad input: a clear 4xx in the OpenAI error shape, and no harm done."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load_file, save_file
from support.tenant import Tenant

ASK = {"model": "base", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def refused(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a refused request, in OpenAI's shape."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.fixture(autouse=True)
def server_stays_well(tenant: Tenant) -> Any:
    """Whatever a test sends, the next request is answered."""
    yield
    assert tenant.http.post("/v1/chat/completions", json=ASK).status_code == 200


@pytest.mark.parametrize("model", ["nope", "nope@1", "base@1", "../base", "a/b@1", "", "auto@1"])
def test_an_unknown_model(tenant: Tenant, model: str) -> None:
    response = tenant.http.post("/v1/chat/completions", json={**ASK, "model": model})
    assert refused(response, 400 if not model else 404)["param"] == "model"


def test_another_tenants_adapter_does_not_exist(
    tenant: Tenant, other_tenant: Tenant, adapters: dict[str, Path]
) -> None:
    assert other_tenant.push("secret", adapters["alpha"]).status_code == 201
    theirs = refused(tenant.http.post("/v1/chat/completions", json={**ASK, "model": "secret"}), 404)
    nobodys = refused(
        tenant.http.post("/v1/chat/completions", json={**ASK, "model": "nobody"}), 404
    )
    assert theirs["message"].replace("secret", "nobody") == nobodys["message"]
    for path in ("", "/rollback", "/activate", "/versions"):
        url = f"/v1/adapters/secret{path}"
        response = tenant.http.post(url, json={"version": 1}) if path else tenant.http.get(url)
        refused(response, 404)


def test_a_pinned_version_that_does_not_exist(tenant: Tenant, adapters: dict[str, Path]) -> None:
    tenant.push("support", adapters["alpha"])
    error = refused(
        tenant.http.post("/v1/chat/completions", json={**ASK, "model": "support@9"}), 404
    )
    assert "versions 1 to 1" in error["message"]


def test_feedback_for_an_unknown_or_foreign_answer(tenant: Tenant, other_tenant: Tenant) -> None:
    theirs = other_tenant.ask("base", "hello").id
    for completion_id in (theirs, "chatcmpl-" + "0" * 40, "x", "../x"):
        body = {"completion_id": completion_id, "value": True}
        refused(tenant.http.post("/v1/feedback", json=body), 404)
        refused(tenant.http.get(f"/v1/feedback/{completion_id.replace('/', '')}"), 404)
    assert other_tenant.http.get("/v1/feedback").json()["data"] == []
    own = other_tenant.http.post("/v1/feedback", json={"completion_id": theirs, "value": True})
    assert own.status_code == 201  # its own tenant may say it
    assert len(other_tenant.http.get("/v1/feedback").json()["data"]) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/feedback", "/v1/adapters"])
@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff\xfe", b'{"a":' * 2000, b"null"])
def test_malformed_json(tenant: Tenant, path: str, body: bytes) -> None:
    refused(tenant.http.post(path, content=body), 400)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/feedback"])
def test_an_oversized_body(tenant: Tenant, path: str) -> None:
    refused(tenant.http.post(path, content=b'{"x":"' + b"y" * 2_100_000 + b'"}'), 413)


@pytest.mark.parametrize(
    "body",
    [
        {"value": True},
        {"completion_id": 7, "value": True},
        {"completion_id": "ID"},
        {"completion_id": "ID", "value": "maybe"},
        {"completion_id": "ID", "value": True, "extra": 1},
        {"completion_id": "ID", "value": True, "id": "a b"},
        {"comparison": {"preferred": "ID", "rejected": []}},
        {"comparison": {"preferred": "ID", "rejected": ["ID"]}},
    ],
)
def test_feedback_that_makes_no_sense(tenant: Tenant, body: dict[str, Any]) -> None:
    answer = tenant.ask("base", "hello")
    filled = json.loads(json.dumps(body).replace("ID", answer.id))
    refused(tenant.http.post("/v1/feedback", json=filled), 400)
    assert tenant.http.get("/v1/feedback").json()["data"] == []
    sense = {"completion_id": answer.id, "value": True}
    assert tenant.http.post("/v1/feedback", json=sense).status_code == 201
    assert len(tenant.http.get("/v1/feedback").json()["data"]) == 1


@pytest.mark.parametrize(
    ("name", "status"),
    [("../evil", 400), ("a/b", 400), ("UPPER", 400), ("", 400), ("auto", 400), ("a" * 65, 400)],
)
def test_path_tricks_in_adapter_names(tenant: Tenant, name: str, status: int) -> None:
    refused(tenant.http.post("/v1/adapters", json={"name": name}), status)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/adapters",
        "/invocations",
        "/scale_elastic_ep",
        "/pause",
        "/sleep",
        "/collective_rpc",
        "/redoc",
        "/v1/../adapters",
    ],
)
def test_vllms_own_admin_paths_are_out_of_reach(tenant: Tenant, path: str) -> None:
    for method in ("GET", "POST"):
        refused(tenant.http.request(method, path, json={} if method == "POST" else None), 404)


def test_the_description_tells_of_our_endpoints_and_of_nothing_internal(tenant: Tenant) -> None:
    with httpx.Client(base_url=tenant.server.url) as stranger:
        paths = stranger.get("/openapi.json").json()["paths"]
        page = stranger.get("/docs").text
    assert {"/v1/feedback", "/v1/adapters", "/v1/chat/completions"} <= paths.keys()
    assert "/v1/feedback" in page
    for internal in ("lora_adapter", "/invocations", "/collective_rpc"):
        assert internal not in page
        assert not any(internal in path for path in paths)


def test_keys_do_only_what_their_scopes_say(tenant: Tenant) -> None:
    thumbs_only = tenant.server.key(tenant.name, "feedback")
    with httpx.Client(
        base_url=tenant.server.url, headers={"authorization": f"Bearer {thumbs_only}"}
    ) as http:
        error = refused(http.post("/v1/chat/completions", json=ASK), 403)
        assert "lacks the scope 'inference'" in error["message"]
        refused(http.post("/v1/adapters", json={"name": "x"}), 403)


class TestUploads:
    """Adapters that must not reach the engine."""

    @pytest.fixture
    def folder(self, adapters: dict[str, Path], tmp_path: Path) -> Path:
        return shutil.copytree(adapters["alpha"], tmp_path / "adapter")

    def spoil_config(self, folder: Path, **changes: Any) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def spoil_weights(self, folder: Path, change: Any) -> None:
        path = folder / "adapter_model.safetensors"
        weights = {name: weight.copy() for name, weight in load_file(path).items()}
        save_file(change(weights), path)

    def test_pickled_weights(self, tenant: Tenant, folder: Path) -> None:
        (folder / "adapter_model.safetensors").write_bytes(pickle.dumps({"a": [1.0]}))
        assert "pickled" in refused(tenant.push("x", folder), 400)["message"]

    def test_a_pickle_beside_the_weights(self, tenant: Tenant, folder: Path) -> None:
        tenant.http.post("/v1/adapters", json={"name": "x"})
        files = [("file", (file.name, file.read_bytes())) for file in folder.iterdir()]
        files.append(("file", ("adapter_model.bin", pickle.dumps({"a": 1}))))
        refused(tenant.http.post("/v1/adapters/x/versions", files=files), 400)

    @pytest.mark.parametrize("name", ["../adapter_config.json", "/etc/passwd", "a\\..\\b"])
    def test_path_tricks_in_file_names(self, tenant: Tenant, folder: Path, name: str) -> None:
        tenant.http.post("/v1/adapters", json={"name": "x"})
        files = [
            ("file", (name, (folder / "adapter_config.json").read_bytes())),
            (
                "file",
                (
                    "adapter_model.safetensors",
                    (folder / "adapter_model.safetensors").read_bytes(),
                ),
            ),
        ]
        refused(tenant.http.post("/v1/adapters/x/versions", files=files), 400)

    def test_a_wrong_base(self, tenant: Tenant, folder: Path) -> None:
        def widen(weights: dict[str, Any]) -> dict[str, Any]:
            name = next(n for n in weights if "lora_A" in n)
            return {**weights, name: weights[name].repeat(2, axis=1)}

        self.spoil_weights(folder, widen)
        assert "another base" in refused(tenant.push("x", folder), 400)["message"]

    def test_a_layer_the_base_does_not_have(self, tenant: Tenant, folder: Path) -> None:
        def rename(weights: dict[str, Any]) -> dict[str, Any]:
            return {name.replace("layers.0.", "layers.99."): w for name, w in weights.items()}

        self.spoil_weights(folder, rename)
        assert "another base" in refused(tenant.push("x", folder), 400)["message"]

    def test_a_rank_over_the_limit(self, tenant: Tenant, folder: Path) -> None:
        def grow(weights: dict[str, Any]) -> dict[str, Any]:
            return {n: w.repeat(8, axis=0 if "lora_A" in n else 1) for n, w in weights.items()}

        self.spoil_weights(folder, grow)
        self.spoil_config(folder, r=32)
        assert "at most 16" in refused(tenant.push("x", folder), 400)["message"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite(self, tenant: Tenant, folder: Path, value: float) -> None:
        def poison(weights: dict[str, Any]) -> dict[str, Any]:
            weights[next(iter(weights))][0, 0] = value
            return weights

        self.spoil_weights(folder, poison)
        assert "NaN or infinity" in refused(tenant.push("x", folder), 400)["message"]

    @pytest.mark.parametrize(
        "change",
        [
            {"use_dora": True},
            {"bias": "all"},
            {"modules_to_save": ["lm_head"]},
            {"peft_type": "IA3"},
            {"r": "4"},
            {"init_lora_weights": "pissa"},
        ],
    )
    def test_what_the_engine_cannot_serve(
        self, tenant: Tenant, folder: Path, change: dict[str, Any]
    ) -> None:
        self.spoil_config(folder, **change)
        refused(tenant.push("x", folder), 400)

    def test_nothing_of_a_refused_upload_remains(self, tenant: Tenant, folder: Path) -> None:
        self.spoil_config(folder, use_dora=True)
        refused(tenant.push("x", folder), 400)
        assert tenant.http.get("/v1/adapters/x").json()["versions"] == []
        assert not any((tenant.server.home / "artifacts" / "staging").iterdir())
