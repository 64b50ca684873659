"""New versions: only what is missing travels, and the old one works until the new one does."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.edge import KEY, Cuts, FakeServer, make_adapter, make_model

from core.errors import Conflict, Invalid, NotFound, Unavailable
from deploy.edge import download as download_module
from deploy.edge.download import Download
from deploy.edge.http import Patience, Server
from deploy.edge.installed import Installation
from deploy.edge.manifest import Manifest, adapter_folder, check_files, read_manifest
from deploy.edge.pull import Puller


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer().running() as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The server's export: a base and two versions of `support`."""
    folder = tmp_path / "source"
    base = make_model(folder)
    make_adapter(folder, "support@1", base)
    make_adapter(folder, "support@2", base)
    return folder


@pytest.fixture
def device(tmp_path: Path, source: Path) -> Path:
    """A device that has the base and the first version."""
    folder = tmp_path / "device"
    shutil.copytree(source, folder)
    shutil.rmtree(folder / "adapters" / "support@2")
    return folder


def puller(folder: Path, fake: FakeServer, tries: int = 8) -> Puller:
    patience = Patience(tries=tries, sleep=lambda _: None, say=lambda _: None)
    return Puller(folder, Server(fake.url, KEY, patience))


def fetch(
    folder: Path,
    fake: FakeServer,
    adapter: str | None = None,
    layout: str | None = None,
    precision: str | None = None,
    tries: int = 8,
) -> list[str]:
    return puller(folder, fake, tries).pull(adapter, layout, precision)


def whole(folder: Path) -> Manifest:
    """The installed model, every file of it checked."""
    installation = Installation(folder)
    installation.check_model()
    assert installation.problems() == {}
    return installation.manifest


def leftovers(folder: Path) -> list[str]:
    known = {"manifest.json", "model", "adapters", ".pull.lock"}
    return [path.name for path in folder.iterdir() if path.name not in known]


def test_only_the_adapter_file_travels(device: Path, source: Path, fake: FakeServer) -> None:
    fake.offer("exp_1", source, "support@1")
    fake.offer("exp_2", source, "support@2")
    assert fetch(device, fake) == ["support@2"]
    size = (source / "adapters/support@2/adapter.onnx_adapter").stat().st_size
    assert dict(fake.sent_bytes) == {"adapters/support@2/adapter.onnx_adapter": size}
    assert Installation(device).find("support").name == "support@2"
    assert leftovers(device) == []


def test_a_second_pull_fetches_nothing(device: Path, source: Path, fake: FakeServer) -> None:
    fake.offer("exp_2", source, "support@2")
    fetch(device, fake)
    assert fetch(device, fake) == []
    assert fake.sent_bytes.total() == 360_000  # 18 bytes a line, 20,000 lines, once


def test_a_running_installation_sees_the_new_version(
    device: Path, source: Path, fake: FakeServer
) -> None:
    running = Installation(device)
    assert running.find("support").name == "support@1"
    fake.offer("exp_2", source, "support@2")
    fetch(device, fake)
    assert running.find("support").name == "support@2"
    assert running.find("support@1").name == "support@1"


def test_an_adapter_that_is_not_installed_comes_when_it_is_named(
    device: Path, source: Path, fake: FakeServer
) -> None:
    make_adapter(source, "billing@7", read_manifest(source))
    fake.offer("exp_3", source, "billing@7")
    fake.offer("exp_2", source, "support@2")
    assert fetch(device, fake, "billing") == ["billing@7"]
    assert [variant.name for variant in Installation(device).adapters()] == [
        "billing@7",
        "support@1",
    ]


def test_a_broken_transfer_leaves_the_old_one_and_goes_on_later(
    device: Path, source: Path, fake: FakeServer
) -> None:
    fake.offer("exp_2", source, "support@2")
    size = (source / "adapters/support@2/adapter.onnx_adapter").stat().st_size
    reader = puller(device, fake, tries=1)
    listed = reader._offers("support", None, None)  # the list comes whole, the file does not
    assert listed[0].model.name == "support@2"
    fake.exports, offers = [], fake.exports
    with pytest.raises(NotFound):
        reader.pull(None, None, None)
    fake.exports = offers

    class CutFiles(Cuts):
        def now(self) -> str | None:
            if "/files/" not in fake.calls[-1] or not self.left:
                return None
            self.left -= 1
            return "midway"

    fake.cuts = CutFiles(1)
    with pytest.raises(Unavailable, match="What was installed stays in use"):
        reader.pull(None, None, None)
    assert Installation(device).find("support").name == "support@1"
    assert fetch(device, fake) == ["support@2"]
    assert fake.sent_bytes.total() == size  # the second half only, at the second time


def test_a_whole_export_comes_through_twenty_cuts(
    tmp_path: Path, source: Path, fake: FakeServer
) -> None:
    fake.offer("exp_2", source, "support@2")
    fake.cuts = Cuts(20)
    target = tmp_path / "fresh"
    assert fetch(target, fake, "support", tries=20) == ["support@2"]
    assert whole(target) == read_manifest(source)
    assert Installation(target).usual().name == "support@2"
    assert leftovers(target) == []


def test_a_file_that_is_not_what_was_announced_is_thrown_away(
    device: Path, source: Path, fake: FakeServer
) -> None:
    fake.offer("exp_2", source, "support@2")
    fake.corrupt = {"adapters/support@2/adapter.onnx_adapter"}
    with pytest.raises(Conflict, match="SHA-256 is not the one announced"):
        fetch(device, fake)
    assert Installation(device).find("support").name == "support@1"
    fake.corrupt = set()
    assert fetch(device, fake) == ["support@2"]


def test_an_adapter_of_another_base_is_refused_with_what_to_do(
    device: Path, tmp_path: Path, fake: FakeServer
) -> None:
    other = tmp_path / "other"
    make_adapter(other, "support@9", make_model(other, content="two"))
    fake.offer("exp_9", other, "support@9")
    with pytest.raises(Conflict, match=r"another base.*attune edge pull NEWFOLDER"):
        fetch(device, fake)
    assert Installation(device).find("support").name == "support@1"
    assert not (device / "adapters" / "support@9").exists()


def test_one_adapter_that_cannot_be_had_does_not_hold_up_the_others(
    device: Path, source: Path, fake: FakeServer
) -> None:
    """`alpha` was never exported on this server; the base is damaged besides."""
    make_adapter(device, "alpha@1", read_manifest(device))
    (device / "model" / "model.onnx").write_bytes(b"damaged")
    fake.offer("exp_2", source, "support@2")
    with pytest.raises(NotFound, match="alpha"):
        fetch(device, fake)
    assert whole(device) == read_manifest(source)
    assert Installation(device).find("support").name == "support@2"


def test_a_damaged_version_is_fetched_again(device: Path, source: Path, fake: FakeServer) -> None:
    fake.offer("exp_1", source, "support@1")
    (device / "adapters/support@1/adapter.onnx_adapter").write_bytes(b"damaged")
    assert fetch(device, fake) == ["support@1"]
    whole(device)


def test_a_damaged_base_is_fetched_again(device: Path, source: Path, fake: FakeServer) -> None:
    fake.offer("exp_2", source, "support@2")
    (device / "model" / "model.onnx").write_bytes(b"damaged")
    assert fetch(device, fake) == ["support@2", "base"]
    assert whole(device) == read_manifest(source)
    assert fetch(device, fake) == []


def test_a_damaged_manifest_is_replaced_with_all_it_names(
    device: Path, source: Path, fake: FakeServer
) -> None:
    fake.offer("exp_2", source, "support@2")
    (device / "manifest.json").write_text("{")
    assert fetch(device, fake, "support") == ["support@2"]
    assert whole(device) == read_manifest(source)
    assert Installation(device).find("support@1").name == "support@1"


def test_an_older_export_than_the_installed_one_is_not_taken(
    source: Path, tmp_path: Path, fake: FakeServer
) -> None:
    newest = tmp_path / "newest"
    shutil.copytree(source, newest)
    fake.offer("exp_1", source, "support@1")
    before = whole(newest)
    assert fetch(newest, fake) == []
    assert whole(newest) == before


def test_a_merged_model_is_replaced_at_once_and_the_old_one_removed(
    tmp_path: Path, fake: FakeServer
) -> None:
    device, first = tmp_path / "device", make_model(tmp_path / "one", "support@1", layout="merged")
    second = make_model(tmp_path / "two", "support@2", layout="merged", content="two")
    third = make_model(tmp_path / "three", "support@3", layout="merged", content="three")
    fake.offer("exp_1", tmp_path / "one")
    assert fetch(device, fake, "support") == ["support@1"]
    assert whole(device) == first
    fake.offer("exp_2", tmp_path / "two")
    assert fetch(device, fake) == ["support@2"]
    assert whole(device) == second
    assert leftovers(device) == []
    fake.offer("exp_3", tmp_path / "three")
    assert fetch(device, fake) == ["support@3"]
    assert whole(device) == third
    assert leftovers(device) == []
    assert fetch(device, fake) == []


@pytest.mark.parametrize("step", ["rename", "manifest", "sweep"])
def test_a_pull_that_dies_at_any_step_leaves_a_working_model(
    tmp_path: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    device, first = tmp_path / "device", make_model(tmp_path / "one", "support@1", layout="merged")
    second = make_model(tmp_path / "two", "support@2", layout="merged", content="two")
    shutil.copytree(tmp_path / "one", device)
    fake.offer("exp_2", tmp_path / "two")

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    target = {
        "rename": (download_module.files, "put"),
        "manifest": (download_module, "write_manifest"),
        "sweep": (Download, "_tidy"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(*target, die)
        with pytest.raises(Died):
            fetch(device, fake)
    assert whole(device) == (second if step == "sweep" else first)
    fetch(device, fake)
    assert whole(device) == second
    fetched_twice = fake.sent_bytes["model/model.onnx"] > 2 * 20 * 5_000
    assert not fetched_twice


def test_a_full_disk_leaves_the_old_one(
    device: Path, source: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.offer("exp_2", source, "support@2")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(Unavailable, match=r"disk of .* is full"):
            fetch(device, fake)
    assert Installation(device).find("support").name == "support@1"


def test_a_disk_that_is_too_small_is_noticed_before(
    device: Path, source: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.offer("exp_2", source, "support@2")
    usage = shutil.disk_usage(device)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(Unavailable, match="100 bytes free; 360,000 are needed"):
        fetch(device, fake)
    assert not fake.sent_bytes


def test_a_folder_with_other_models_in_it_keeps_them(
    tmp_path: Path, source: Path, fake: FakeServer
) -> None:
    fake.offer("exp_2", source, "support@2")
    mine = tmp_path / "mine"
    (mine / "models" / "whisper").mkdir(parents=True)
    (mine / "models" / "whisper" / "weights").write_text("precious")
    (mine / "model").mkdir()
    with pytest.raises(Conflict, match="model"):
        fetch(mine, fake, "support")
    (mine / "model").rmdir()
    assert fetch(mine, fake, "support") == ["support@2"]
    assert (mine / "models" / "whisper" / "weights").read_text() == "precious"


def test_an_empty_folder_must_be_told_what_to_fetch(tmp_path: Path, fake: FakeServer) -> None:
    with pytest.raises(Invalid, match="--adapter NAME"):
        fetch(tmp_path / "fresh", fake)


def test_several_forms_of_one_adapter_are_listed_to_choose_from(
    tmp_path: Path, source: Path, fake: FakeServer
) -> None:
    make_model(tmp_path / "merged", "support@2", layout="merged")
    fake.offer("exp_1", tmp_path / "merged")
    fake.offer("exp_2", source, "support@2")
    with pytest.raises(Invalid, match=r"--layout base\+adapters --precision fp32; --layout merged"):
        fetch(tmp_path / "fresh", fake, "support")
    assert fetch(tmp_path / "fresh", fake, "support", layout="merged") == ["support@2"]


def test_an_export_that_does_not_exist_is_named_with_the_command_that_makes_it(
    device: Path, fake: FakeServer
) -> None:
    with pytest.raises(NotFound, match=r"`attune export support --layout base\+adapters"):
        fetch(device, fake)


def test_a_manifest_from_the_network_cannot_name_paths_outside(
    device: Path, source: Path, fake: FakeServer
) -> None:
    fake.offer("exp_2", source, "support@2")
    manifest = fake.exports[0]["adapter_manifest"]
    manifest["files"] = {"../../../evil": manifest["files"]["adapter.onnx_adapter"]}
    with pytest.raises(Invalid, match="strange path"):
        fetch(device, fake)


def test_a_base_alone_can_be_fetched_and_adapters_added(
    tmp_path: Path, source: Path, fake: FakeServer
) -> None:
    fake.offer("exp_0", source)
    target = tmp_path / "fresh"
    assert fetch(target, fake, "base") == ["base"]
    with pytest.raises(Invalid, match="--adapter NAME"):
        fetch(target, fake)
    fake.offer("exp_1", source, "support@1")
    assert fetch(target, fake, "support") == ["support@1"]
    check_files(adapter_folder(target, "support@1"), read_manifest(target / "adapters/support@1"))
