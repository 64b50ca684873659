"""Files appear whole or not at all, whatever the disk, a kill or a second process does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import files
from core.errors import Conflict, Unavailable

ROOT = Path(__file__).parents[2]


def test_a_folder_appears_with_all_its_files_and_nothing_beside(tmp_path: Path) -> None:
    with files.appearing(tmp_path / "out") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("x")
        (folder.parent / "scratch").write_text("thrown away")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "below" / "file").read_text() == "x"


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.appearing(tmp_path / "out") as folder:
            (folder / "half").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_replaced_only_on_purpose(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("x")
    with pytest.raises(Conflict, match="exists already"), files.appearing(out):
        pass
    with files.appearing(out, replace=True) as folder:
        (folder / "new").write_text("x")
        assert (out / "old").exists()
    assert os.listdir(out) == ["new"]


def test_two_at_once_do_not_write_one_folder(tmp_path: Path) -> None:
    with files.appearing(tmp_path / "out") as folder:
        with pytest.raises(Conflict, match="Another process"), files.appearing(tmp_path / "out"):
            pass
        (folder / "file").write_text("x")
    assert (tmp_path / "out" / "file").exists()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from core import files\n"
        "with files.appearing(Path(sys.argv[1])) as folder:\n"
        "    (folder.parent / 'left').mkdir()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "out"], cwd=ROOT, check=False)
    assert (tmp_path / ".out.partial" / "left").is_dir()
    with files.appearing(tmp_path / "out") as folder:
        assert os.listdir(folder.parent) == ["whole"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError):
            files.write_text(path, "new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["file"])
    files.write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (28, "disk_full", r"disk of /x is full: free some space\. Try again\."),
        (122, "disk_full", "full"),  # a quota
        (27, "disk_full", "full"),  # a file larger than the process may write
        (13, "store_unavailable", r"No access to /x: Permission denied\. Try again\."),
    ],
)
def test_trouble_with_a_disk_says_what_to_do(number: int, code: str, words: str) -> None:
    with pytest.raises(Unavailable, match=words) as told, files.disk_trouble("/x", "Try again."):
        raise OSError(number, os.strerror(number))
    assert told.value.code == code


def test_a_lock_is_for_one_and_free_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / ".sync.lock"
    with files.locked(lock, "Another sync.", code="busy"):
        other = files.locked(lock, "Another sync.", code="busy")
        with pytest.raises(Conflict, match="Another sync") as refused, other:
            pass
        assert refused.value.code == "busy"
    with files.locked(lock, "Another sync.", code="busy"):
        pass
