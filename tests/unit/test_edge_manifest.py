"""The manifest of an export: read back as written, refused with words when it is not whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import Conflict, Invalid
from deploy.edge.manifest import (
    ADAPTER_FILE,
    FileEntry,
    Manifest,
    ModelEntry,
    Verification,
    adapter_folder,
    check_files,
    digest_of_files,
    entries_of,
    read_manifest,
    write_manifest,
)

MODEL = ModelEntry("support@3", "support", 3, "a" * 64, "base", "b" * 64, "LlamaForCausalLM", 1024)
FIGURES = Verification(
    prompts=50,
    prompt_source="shipped",
    tokens=1200,
    argmax_agreement=1.0,
    top5_overlap=1.0,
    perplexity_source=2.0,
    perplexity_export=2.0,
    perplexity_difference=0.0,
    greedy_equal=1.0,
    max_logit_difference=1e-5,
    thresholds={"argmax_agreement": 0.999},
    passed=True,
)


@pytest.fixture
def export(tmp_path: Path) -> tuple[Path, Manifest]:
    """A folder with one model file, and its manifest, not yet written."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"graph")
    files = entries_of(tmp_path)
    manifest = Manifest(
        kind="merged",
        precision="fp32",
        model=MODEL,
        files=files,
        tools={"onnxruntime-genai": "0.18.0"},
        created_at="2026-11-21T12:00:00+00:00",
        verification=FIGURES,
        layout="merged",
        model_digest=digest_of_files(files),
        recipe={"precision": "fp32"},
    )
    return tmp_path, manifest


def test_a_manifest_is_read_back_as_it_was_written(export: tuple[Path, Manifest]) -> None:
    folder, manifest = export
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "model"]
    check_files(folder, read_manifest(folder))


def test_an_adapters_manifest_names_its_base_and_rank_and_no_layout(
    export: tuple[Path, Manifest],
) -> None:
    _, manifest = export
    adapter = replace(
        manifest, kind="adapter", layout=None, model_digest=None, recipe={},
        base_model_digest="c" * 64, rank=16, files={ADAPTER_FILE: FileEntry("d" * 64, 1)},
    )  # fmt: skip
    body = adapter.to_json()
    assert not {"layout", "model_digest", "recipe"} & set(body)
    assert (body["format"], body["base_model_digest"], body["rank"]) == (1, "c" * 64, 16)
    assert Manifest.from_json(body) == adapter
    assert not {"base_model_digest", "rank"} & set(manifest.to_json())


def test_an_adapters_manifest_without_the_adapter_is_refused(
    export: tuple[Path, Manifest],
) -> None:
    adapter = replace(export[1], kind="adapter", base_model_digest="c" * 64, rank=16)
    with pytest.raises(Invalid, match="names no adapter"):
        Manifest.from_json(adapter.to_json())


def test_manifests_databases_and_adapters_are_not_the_exports_files(
    export: tuple[Path, Manifest],
) -> None:
    folder, manifest = export
    write_manifest(folder, manifest)
    for name in ("edge.db", "edge.db-wal", "adapters/support@3/adapter.onnx_adapter", ".hidden"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert list(entries_of(folder)) == ["model/model.onnx"]


def test_the_model_digest_is_that_of_the_canonical_json_of_paths_and_digests() -> None:
    files = {"b": FileEntry("2" * 64, 1), "a": FileEntry("1" * 64, 9)}
    text = '{"a":"' + "1" * 64 + '","b":"' + "2" * 64 + '"}'
    assert digest_of_files(files) == hashlib.sha256(text.encode()).hexdigest()


def test_a_folder_without_a_manifest_is_not_a_finished_export(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no finished export"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not an export's manifest"),
        ('{"kind": "merged"}', "not an export's manifest"),
        ('{"format": 2}', "reads format 1"),
        ('{"format": 1}', "damaged"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(Invalid, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../up", "/abs", "model/../../up", "model//x", "a\\b", ".", "", "manifest.json", "edge.db",
     "adapters/x", "model/.x", "a\0b"],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_or_hides_is_refused(
    export: tuple[Path, Manifest], name: str
) -> None:
    body = export[1].to_json()
    body["files"] = {name: {"sha256": "a" * 64, "size_bytes": 1}}
    with pytest.raises(Invalid, match="strange path"):
        Manifest.from_json(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [("precision", "fp16"), ("kind", "other"), ("files", []), ("files", {}), ("model", None),
     ("model_digest", "A" * 64), ("tools", None), ("verification", {})],
)  # fmt: skip
def test_a_strange_field_is_refused(
    export: tuple[Path, Manifest], field: str, value: object
) -> None:
    with pytest.raises(Invalid, match="damaged"):
        Manifest.from_json(export[1].to_json() | {field: value})


def test_a_changed_cut_or_missing_file_is_named(export: tuple[Path, Manifest]) -> None:
    folder, manifest = export
    file = folder / "model" / "model.onnx"
    for content, message in ((b"grapf", "SHA-256 differs"), (b"grap", "4 bytes instead of 5")):
        file.write_bytes(content)
        with pytest.raises(Conflict, match=f"model.onnx.*{message}") as caught:
            check_files(folder, manifest)
        assert caught.value.code == "digest_mismatch"
    file.unlink()
    with pytest.raises(Conflict, match=r"model\.onnx is missing"):
        check_files(folder, manifest)


def test_a_model_digest_of_other_files_is_refused(export: tuple[Path, Manifest]) -> None:
    folder, manifest = export
    write_manifest(folder, replace(manifest, model_digest="0" * 64))
    with pytest.raises(Invalid, match="model_digest is not that of its files"):
        read_manifest(folder)


def test_a_number_json_does_not_know_is_never_written(export: tuple[Path, Manifest]) -> None:
    folder, manifest = export
    endless = replace(FIGURES, perplexity_export=float("inf"))
    with pytest.raises(ValueError):
        write_manifest(folder, replace(manifest, verification=endless))
    assert not (folder / "manifest.json").exists()
    assert json.loads(json.dumps(manifest.to_json())) == manifest.to_json()


def test_a_versions_folder_has_its_name(tmp_path: Path) -> None:
    assert adapter_folder(tmp_path, "support@3") == tmp_path / "adapters" / "support@3"
    for name in ("support", "../x@1", "support@0", "a/b@1", "support@1/..", ""):
        with pytest.raises(Invalid):
            adapter_folder(tmp_path, name)
