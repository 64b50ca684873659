"""`attune export --out DIR`: what is missing travels, what arrives is checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.edge import KEY, Cuts, FakeServer, make_adapter, make_model

from core.errors import Conflict, Unavailable
from deploy.edge.download import fetch_export
from deploy.edge.http import Patience, Server
from deploy.edge.installed import STAGING
from deploy.edge.manifest import (
    Manifest,
    adapter_folder,
    check_files,
    digest_of_files,
    entries_of,
    read_manifest,
    write_manifest,
)

MODEL = ["model/model.onnx", "model/model.onnx.data", "model/tokenizer.json"]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer().running() as server:
        yield server


@pytest.fixture
def exports(tmp_path: Path, fake: FakeServer) -> dict[str, dict[str, Any]]:
    """The server's: two versions on one base, and two merged ones."""
    shared = tmp_path / "server" / "shared"
    base = make_model(shared)
    for number in (1, 2):
        make_adapter(shared, f"support@{number}", base)
        fake.offer(f"exp_base_{number}", shared, f"support@{number}")
        merged = tmp_path / "server" / f"merged-{number}"
        make_model(merged, f"support@{number}", layout="merged", content=f"v{number}")
        (merged / "model" / "tokenizer.json").write_bytes(b"the same in both")
        write_manifest(merged, of_what_is_there(merged))
        fake.offer(f"exp_merged_{number}", merged)
    return {export["id"]: export for export in fake.exports}


def of_what_is_there(folder: Path) -> Manifest:
    """The folder's manifest with the files as they are now."""
    files = entries_of(folder, below="model")
    return replace(read_manifest(folder), files=files, model_digest=digest_of_files(files))


def fetch(fake: FakeServer, export: dict[str, Any], out: Path, tries: int = 8) -> list[str]:
    patience = Patience(tries=tries, sleep=lambda _: None, say=lambda _: None)
    return fetch_export(Server(fake.url, KEY, patience), export, out)


def check(out: Path, *adapters: str) -> None:
    check_files(out, read_manifest(out))
    for name in adapters:
        check_files(adapter_folder(out, name), read_manifest(adapter_folder(out, name)))
    hidden = [path.name for path in out.rglob(".*")]
    assert hidden == [".pull.lock"]


def test_an_export_arrives_whole_and_a_second_time_nothing_travels(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    adapter = "adapters/support@1/adapter.onnx_adapter"
    assert fetch(fake, exports["exp_base_1"], out) == [*MODEL, adapter]
    check(out, "support@1")
    assert fetch(fake, exports["exp_base_1"], out) == []


def test_of_a_second_version_only_the_adapter_travels(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(fake, exports["exp_base_1"], out)
    come = fetch(fake, exports["exp_base_2"], out)
    assert come == ["adapters/support@2/adapter.onnx_adapter"]
    check(out, "support@1", "support@2")


def test_a_file_that_was_damaged_here_is_fetched_alone(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(fake, exports["exp_base_1"], out)
    (out / MODEL[0]).write_bytes(b"damaged")
    assert fetch(fake, exports["exp_base_1"], out) == [MODEL[0]]
    check(out, "support@1")


def test_of_a_newer_merged_version_only_what_differs_travels(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(fake, exports["exp_merged_1"], out)
    assert fetch(fake, exports["exp_merged_2"], out) == MODEL[:2]
    check(out)
    assert read_manifest(out).model.name == "support@2"


def test_twenty_broken_connections_cost_no_byte_twice(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    """A cut before the answer sends nothing, one midway half: the rest is asked for from there."""
    fake.cuts = Cuts(20)
    out = tmp_path / "out"
    fetch(fake, exports["exp_base_1"], out, tries=25)
    check(out, "support@1")
    sizes = {file["path"]: file["size_bytes"] for file in exports["exp_base_1"]["files"]}
    assert dict(fake.sent_bytes) == sizes


def test_a_transfer_that_breaks_for_good_is_no_export_and_goes_on_later(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    fake.cuts = Cuts(1_000, share=1.0)
    out = tmp_path / "out"
    with pytest.raises(Unavailable, match="run the command again"):
        fetch(fake, exports["exp_base_1"], out, tries=3)
    assert not (out / "manifest.json").exists()
    fake.cuts = Cuts(0)
    fetch(fake, exports["exp_base_1"], out)
    check(out, "support@1")


def test_what_is_not_what_was_announced_is_never_in_place(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(fake, exports["exp_base_1"], out)
    fake.corrupt.add("adapters/support@2/adapter.onnx_adapter")
    with pytest.raises(Conflict) as refused:
        fetch(fake, exports["exp_base_2"], out)
    assert refused.value.code == "digest_mismatch"
    assert not adapter_folder(out, "support@2").exists()
    check_files(out, read_manifest(out))
    fake.corrupt.clear()
    fetch(fake, exports["exp_base_2"], out)
    check(out, "support@1", "support@2")


def test_another_export_is_not_put_over_one_that_is_in_use(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(fake, exports["exp_base_1"], out)
    with pytest.raises(Conflict, match="empty folder"):
        fetch(fake, exports["exp_merged_1"], out)
    check(out, "support@1")


def test_a_folder_called_model_that_is_no_exports_is_never_replaced(
    fake: FakeServer, exports: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "project"
    (out / "model").mkdir(parents=True)
    (out / "model" / "mine.py").write_text("precious")
    with pytest.raises(Conflict, match="model"):
        fetch(fake, exports["exp_merged_1"], out)
    assert (out / "model" / "mine.py").read_text() == "precious"


def test_a_full_disk_is_told_and_what_was_there_stays(
    fake: FakeServer, exports: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    fetch(fake, exports["exp_base_1"], out)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Server, "fetch", full)
    with pytest.raises(Unavailable, match=r"disk of .* is full"):
        fetch(fake, exports["exp_base_2"], out)
    check_files(out, read_manifest(out))
    assert (out / STAGING).is_dir()  # for the next try
