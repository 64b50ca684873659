"""What tells one base model from another, and that a large one is read once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bases import write_base

from adapters.artifacts import file_digests
from adapters.artifacts.digest import weights_digest
from adapters.artifacts.file_digests import FileDigests
from adapters.bases import identify


def flip_a_byte(model: Path) -> None:
    """Of the weights, leaving size and time of writing as they were."""
    file = model / "model.safetensors"
    before, raw = file.stat(), bytearray(file.read_bytes())
    raw[-7] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename_layer(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001.safetensors")


def other_config(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({"hidden_size": 4, "rope_theta": 5}))


@pytest.mark.parametrize("change", [flip_a_byte, rename_layer, other_config])
def test_another_weight_or_configuration_is_another_base(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    model = write_base(tmp_path / "model")
    before = identify(str(model), tmp_path)
    change(model)
    after = identify(str(model), tmp_path)
    assert after.shapes == before.shapes
    assert after.digest != before.digest


def test_what_changes_no_weight_is_the_same_base_wherever_it_lies(tmp_path: Path) -> None:
    model = write_base(tmp_path / "model", transformers_version="4", _name_or_path="x")
    other = write_base(tmp_path / "other", transformers_version="5")
    for name in ("chat_template.jinja", "tokenizer.json", "generation_config.json"):
        (other / name).write_text("{}")
    text = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(text, indent=4, sort_keys=True))
    assert weights_digest(model) == weights_digest(other)
    assert weights_digest(write_base(tmp_path / "third", fill=2.0)) != weights_digest(model)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole, as they are."""
    seen: list[Path] = []
    whole = file_digests.sha256_of

    def counted(path: Path) -> str:
        seen.append(path)
        return whole(path)

    monkeypatch.setattr(file_digests, "sha256_of", counted)
    return seen


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour has passed since the files were written."""
    now = file_digests.time.time_ns
    monkeypatch.setattr(file_digests.time, "time_ns", lambda: now() + 3600 * 10**9)


@pytest.mark.usefixtures("later")
def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path, read: list[Path]) -> None:
    model, home = write_base(tmp_path / "model"), tmp_path / "new" / "home"
    weights = model / "model.safetensors"
    first = identify(str(model), home)
    assert identify(str(model), home) == first
    assert FileDigests(home / "file_digests.json").sha256(weights)
    assert read == [weights]
    flip_a_byte(model)
    assert identify(str(model), home).digest != first.digest
    assert read == [weights, weights]


def test_a_file_written_a_moment_ago_is_not_remembered(tmp_path: Path, read: list[Path]) -> None:
    """It may be written again within the same tick of the clock."""
    model = write_base(tmp_path / "model")
    for _ in range(2):
        identify(str(model), tmp_path)
    assert len(read) == 2


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"\xff", b'{"/x": 5}'])
def test_what_is_remembered_may_be_damaged_or_gone(
    tmp_path: Path, read: list[Path], left: bytes
) -> None:
    model, kept = write_base(tmp_path / "model"), tmp_path / "file_digests.json"
    first = identify(str(model), tmp_path)
    kept.write_bytes(left)
    assert identify(str(model), tmp_path) == first
    kept.unlink()
    kept.mkdir()  # nor can it be written
    assert identify(str(model), tmp_path) == first
    assert len(read) == 3
