"""The artifact store: content by its hash, written once, checked before use."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from adapters.artifacts.digest import ADAPTER_FILES, adapter_digest, base_digest
from adapters.artifacts.store import ArtifactStore
from core.errors import Invalid, NotFound, Unavailable
from core.ids import Digest


def adapter(path: Path, weights: bytes = b"weights") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / ADAPTER_FILES[0]).write_bytes(b"{}")
    (path / ADAPTER_FILES[1]).write_bytes(weights)
    return path


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def bucket() -> Iterator[str]:
    """The URL of an empty remote store (fsspec's, in memory)."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield "memory://bucket/attune"
    filesystem.store.clear()


def test_a_folder_is_kept_under_its_digest(store: ArtifactStore, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    (source / "README.md").write_text("left behind")
    digest = store.put_folder(source)
    kept = store.folder(digest)
    assert digest == adapter_digest(source)
    assert kept.is_absolute()
    assert sorted(os.listdir(kept)) == sorted(ADAPTER_FILES)
    assert store.check(digest) == kept
    assert (kept.stat().st_mode & 0o777) == 0o755  # engine processes of other users read it


def test_digests_stay_what_they_were_when_they_were_stored(tmp_path: Path) -> None:
    """SHA-256 of `{"name":"sha256",…}` by name: stored paths and recorded exports rely on it."""
    folder = adapter(tmp_path / "a")
    empty, weights = (hashlib.sha256(content).hexdigest() for content in (b"{}", b"weights"))
    text = f'{{"adapter_config.json":"{empty}","adapter_model.safetensors":"{weights}"}}'
    assert adapter_digest(folder) == hashlib.sha256(text.encode()).hexdigest()
    (folder / "regression.jsonl").write_text("no part of a base model")
    assert base_digest(folder) == adapter_digest(folder)


def test_the_same_content_twice_is_one_folder_and_leaves_no_scraps(
    store: ArtifactStore, tmp_path: Path
) -> None:
    first = store.put_folder(adapter(tmp_path / "a"))
    assert store.put_folder(adapter(tmp_path / "b")) == first
    assert store.put_folder(adapter(tmp_path / "c", b"other")) != first
    assert list((tmp_path / "store" / "staging").iterdir()) == []


def test_many_threads_storing_the_same_content_agree(store: ArtifactStore, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source", b"w" * 100_000)
    found: list[Digest] = []
    threads = [
        threading.Thread(target=lambda: found.append(store.put_folder(source))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert store.check(found[0]).is_dir()


def test_damage_is_found_before_the_engine_sees_it(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put_folder(adapter(tmp_path / "source"))
    (store.folder(digest) / ADAPTER_FILES[1]).write_bytes(b"weightz")
    with pytest.raises(Unavailable, match="damaged"):
        store.check(digest)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose every byte was read."""
    read: list[Path] = []

    def noting(folder: Path) -> Digest:
        read.append(folder)
        return adapter_digest(folder)

    monkeypatch.setattr("adapters.artifacts.store.adapter_digest", noting)
    return read


def test_content_found_sound_is_read_again_only_when_a_file_has_changed(
    store: ArtifactStore, tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where size and time of the last write are put back."""
    digest = store.put_folder(adapter(tmp_path / "a"))
    later_ns = time.time_ns() + 10**10
    monkeypatch.setattr("adapters.artifacts.store.time.time_ns", lambda: later_ns)
    reads.clear()
    weights = store.check(digest) / ADAPTER_FILES[1]
    assert store.check(digest) == weights.parent
    assert len(reads) == 1
    before = weights.stat()
    weights.write_bytes(b"weightz")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Unavailable, match="damaged"):
        store.check(digest)


def test_content_just_written_is_not_trusted_by_its_time_stamp(
    store: ArtifactStore, tmp_path: Path, reads: list[Path]
) -> None:
    digest = store.put_folder(adapter(tmp_path / "a"))
    reads.clear()
    store.check(digest)
    store.check(digest)
    assert len(reads) == 2


def test_a_lost_file_of_a_stored_folder_is_damage(store: ArtifactStore, tmp_path: Path) -> None:
    """The version exists; only the server cannot serve it now. That is not the caller's 404."""
    digest = store.put_folder(adapter(tmp_path / "source"))
    (store.folder(digest) / ADAPTER_FILES[0]).unlink()
    with pytest.raises(Unavailable, match="damaged"):
        store.check(digest)


def test_a_missing_folder_is_named_by_its_digest_only(store: ArtifactStore) -> None:
    with pytest.raises(NotFound, match="000000000000"):
        store.folder(Digest("0" * 64))


@pytest.mark.parametrize("text", ["", "..", "../" * 20, "/etc/passwd", "A" * 64, "0" * 63])
def test_what_is_no_digest_never_becomes_a_path(store: ArtifactStore, text: str) -> None:
    for read in (store.folder, store.check, store.read_bytes):
        with pytest.raises(Invalid):
            read(Digest(text))


def test_symlinks_are_not_followed_into_the_store(store: ArtifactStore, tmp_path: Path) -> None:
    source = adapter(tmp_path / "source")
    (source / ADAPTER_FILES[1]).unlink()
    (source / ADAPTER_FILES[1]).symlink_to("/etc/passwd")
    with pytest.raises(NotFound):
        store.put_folder(source)


def test_a_failed_store_leaves_no_staging_behind(store: ArtifactStore, tmp_path: Path) -> None:
    def fail() -> None:
        with store.staging() as staged:
            (staged / "half").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((tmp_path / "store" / "staging").iterdir()) == []


def test_blobs_come_back_or_are_known_to_be_damaged(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put_bytes(b"snapshot")
    assert digest == hashlib.sha256(b"snapshot").hexdigest()
    assert store.put_bytes(b"snapshot") == digest
    assert store.read_bytes(digest) == b"snapshot"
    (tmp_path / "store" / "blobs" / digest[:2] / digest).write_bytes(b"snapshoT")
    with pytest.raises(Unavailable):
        store.read_bytes(digest)
    with pytest.raises(NotFound):
        store.read_bytes(Digest("1" * 64))


def test_a_remote_folder_is_fetched_once_and_verified(bucket: str, tmp_path: Path) -> None:
    here = ArtifactStore(bucket, cache=tmp_path / "here")
    digest = here.put_folder(adapter(tmp_path / "source"))
    there = ArtifactStore(bucket, cache=tmp_path / "there")
    kept = there.check(digest)
    assert (kept / ADAPTER_FILES[1]).read_bytes() == b"weights"
    assert (tmp_path / "there") in kept.parents
    fsspec.filesystem("memory").store.clear()
    assert there.folder(digest) == kept


def test_a_remote_folder_damaged_on_its_way_never_enters_the_cache(
    bucket: str, tmp_path: Path
) -> None:
    digest = ArtifactStore(bucket, cache=tmp_path / "here").put_folder(adapter(tmp_path / "s"))
    remote = f"{bucket}/adapters/{digest[:2]}/{digest}/{ADAPTER_FILES[1]}"
    fsspec.filesystem("memory").pipe_file(remote, b"evil")
    there = ArtifactStore(bucket, cache=tmp_path / "there")
    with pytest.raises(Unavailable, match="damaged"):
        there.folder(digest)
    fsspec.filesystem("memory").pipe_file(remote, b"weights")
    assert there.check(digest).is_dir()


def test_what_a_remote_store_lacks_is_not_found(bucket: str, tmp_path: Path) -> None:
    store = ArtifactStore(bucket, cache=tmp_path / "cache")
    for read in (store.folder, store.read_bytes):
        with pytest.raises(NotFound):
            read(Digest("2" * 64))


def test_a_remote_blob_is_read_from_elsewhere(bucket: str, tmp_path: Path) -> None:
    digest = ArtifactStore(bucket, cache=tmp_path / "here").put_bytes(b"snapshot")
    assert ArtifactStore(bucket, cache=tmp_path / "there").read_bytes(digest) == b"snapshot"


def test_a_disk_that_cannot_be_read_is_unavailable_not_a_crash(
    store: ArtifactStore, tmp_path: Path
) -> None:
    """A folder that is a file raises NotADirectoryError, as an unmounted disk raises others."""
    digest = store.put_folder(adapter(tmp_path / "source"))
    weights = store.folder(digest) / ADAPTER_FILES[1]
    weights.unlink()
    os.mkfifo(weights)  # neither a file nor a folder
    with pytest.raises(Unavailable):
        store.check(digest)
    blob = Digest(hashlib.sha256(b"x").hexdigest())
    (tmp_path / "store" / "blobs").write_bytes(b"a file where a folder should be")
    with pytest.raises(Unavailable):
        store.put_bytes(b"x")
    with pytest.raises((NotFound, Unavailable)):
        store.read_bytes(blob)


def test_a_file_is_kept_under_its_digest_and_stored_again_when_damaged(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"graph" * 1000)
    digest = store.put_file(source)
    assert digest == hashlib.sha256(source.read_bytes()).hexdigest()
    kept = store.file(digest)
    assert kept.read_bytes() == source.read_bytes()
    assert store.has_file(digest, 5000)
    kept.write_bytes(b"grapH" * 1000)
    assert not store.has_file(digest, 5000)
    with pytest.raises(Unavailable, match="damaged"):
        store.file(digest)
    assert store.put_file(source) == digest
    assert store.file(digest).read_bytes() == source.read_bytes()
    assert list((tmp_path / "store" / "staging").iterdir()) == []


def test_a_missing_file_is_not_found(store: ArtifactStore) -> None:
    assert not store.has_file(Digest("3" * 64), 1)
    with pytest.raises(NotFound):
        store.file(Digest("3" * 64))


def test_a_remote_file_is_fetched_once_and_checked(bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"graph" * 1000)
    digest = ArtifactStore(bucket, cache=tmp_path / "here").put_file(source)
    there = ArtifactStore(bucket, cache=tmp_path / "there")
    assert there.has_file(digest, 5000)
    assert not there.has_file(digest, 4999)
    assert not there.has_file(Digest("3" * 64), 5000)
    remote = f"{bucket}/blobs/{digest[:2]}/{digest}"
    memory = fsspec.filesystem("memory")
    memory.pipe_file(remote, b"grapH" * 1000)
    with pytest.raises(Unavailable, match="damaged"):
        there.file(digest)
    memory.pipe_file(remote, source.read_bytes())
    assert there.file(digest).read_bytes() == source.read_bytes()
    memory.store.clear()
    assert there.file(digest).is_file()
    with pytest.raises(NotFound):
        there.file(Digest("3" * 64))


def test_a_full_disk_is_said_to_be_full(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source = tmp_path / "model.onnx"
    source.write_bytes(b"graph")
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(Unavailable, match="full"):
        store.put_file(source)
    assert list((tmp_path / "store" / "staging").iterdir()) == []
