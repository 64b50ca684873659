"""The device's database: committed when told, each item once, states that only move forward."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.edge import answered, note

from core.errors import Conflict, Unavailable
from deploy.edge.store import Outcome, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "edge.db")


def test_an_item_goes_out_as_it_came_in(store: Store) -> None:
    store.add_answer(answered(1, "support"))
    store.put_note(note(1))
    answer, thumb = store.waiting(10)
    assert (answer["seq"], answer["type"], answer["id"]) == (1, "interaction", f"edge-{1:032x}")
    assert answer["messages"] == [{"role": "user", "content": "question 1 é"}]
    assert (answer["created_at"], answer["version"]) == (1_001.0, 1)
    assert thumb == {
        "seq": 2,
        "type": "feedback",
        "id": "fb_1",
        "completion_id": f"edge-{1:032x}",
        "created_at": 5.0,
        "name": "thumb",
        "value": True,
    }


def test_a_device_keeps_its_name_for_good(tmp_path: Path) -> None:
    first = Store(tmp_path / "edge.db").device
    assert Store(tmp_path / "edge.db").device == first
    assert len(bytes.fromhex(first)) == 16


def test_the_same_feedback_again_changes_nothing(store: Store) -> None:
    assert store.put_note(note(1, created_at_s=5.0)) is True
    assert store.put_note(note(1, created_at_s=9.0)) is False
    assert [item["seq"] for item in store.waiting(10)] == [1]


def test_the_last_word_is_the_newest_even_if_the_clock_was_set_back(store: Store) -> None:
    store.put_note(note(1, value=True, created_at_s=9_000.0))
    store.put_note(note(1, value=False, created_at_s=5.0))
    (thumb,) = store.waiting(10)
    assert thumb["value"] is False
    assert 9_000.0 < thumb["created_at"] < 9_001.0


def test_an_id_that_feedback_on_another_answer_has_is_refused(store: Store) -> None:
    """The server would refuse it too, when nobody is there to choose another."""
    store.put_note(note(1))
    with pytest.raises(Conflict, match="another answer"):
        store.put_note(replace(note(2), id="fb_1"))
    assert [item["completion_id"] for item in store.waiting(10)] == [f"edge-{1:032x}"]


def test_feedback_that_changes_during_a_sync_is_sent_again(store: Store) -> None:
    store.put_note(note(1, value=True))
    sent = store.waiting(10)
    store.put_note(note(1, value=False))
    store.settle([Outcome(sent[0]["seq"], server_id="fb")])
    assert [item["value"] for item in store.waiting(10)] == [False]


def test_what_the_server_said_is_kept_and_not_said_over(store: Store) -> None:
    for number in (1, 2, 3):
        store.add_answer(answered(number))
    assert store.settle([Outcome(1, server_id="chatcmpl-1"), Outcome(2, reason="unknown")]) == 2
    assert store.settle([Outcome(2, server_id="chatcmpl-2")]) == 0
    assert store.counts()["interaction"] == {"waiting": 1, "synced": 1, "rejected": 1}
    assert store.rejected() == [("interaction", f"edge-{2:032x}", "unknown")]
    assert [item["seq"] for item in store.waiting(10)] == [3]


def test_a_process_killed_after_the_call_returned_has_lost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from deploy.edge.store import Store; from deploy.edge.types import Note\n"
        "store = Store(Path(sys.argv[1]))\n"
        "store.put_note(Note('fb_1', 'edge-1', 1.0, 'thumb', True))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [item["id"] for item in Store(path).waiting(10)] == ["fb_1"]


def test_a_commit_reaches_the_disk_before_the_call_returns(store: Store) -> None:
    assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE about SET value = '2' WHERE name = 'format'")
    with pytest.raises(Conflict, match="another version"):
        Store(path)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "edge.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(Unavailable, match=r"edge\.db cannot be written or read") as refused:
        Store(tmp_path / "edge.db")
    assert str(tmp_path) not in refused.value.message  # the device's server tells it to clients


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    """The limit on file size stands in for the disk: SQLite sees a failed write either way."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from core.errors import Unavailable; from deploy.edge.store import Store\n"
        "from deploy.edge.types import Note\n"
        "store = Store(Path(sys.argv[1]))\n"
        "store.put_note(Note('kept', 'edge-1', 1.0, 'thumb', True))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    store.put_note(Note('lost', 'edge-1', 1.0, 'comment', comment='x' * 500_000))\n"
        "except Unavailable as error:\n"
        "    print(error.message)\n"
    )
    root, path = Path(__file__).parents[2], tmp_path / "edge.db"
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert "Is the disk full" in done.stdout, done.stderr
    assert [item["id"] for item in Store(path).waiting(10)] == ["kept"]
