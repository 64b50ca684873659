"""What one process writes of an adapter, another sees at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.vllm.bounds.log import PATH_VARIABLE, BoundsLog
from server.vllm.bounds.watch import Watch


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "bounds"))
    return tmp_path / "bounds"


def test_a_fact_is_seen_by_every_reader_and_of_one_adapter_only(path: Path) -> None:
    writer, reader = BoundsLog(), BoundsLog()
    assert not reader.has_saturated(7)
    writer.note_large(7)
    writer.note_saturated(7)
    assert (reader.is_large(7), reader.has_saturated(7)) == (True, True)
    assert (reader.is_large(17), reader.has_saturated(70)) == (False, False)


def test_a_fact_is_written_once(path: Path) -> None:
    first, second = BoundsLog(), BoundsLog()
    for log in (first, second, first):
        log.note_saturated(1 << 40)
    assert path.read_text() == f"saturated {1 << 40}\n"


def test_half_a_line_is_read_when_it_is_whole(path: Path) -> None:
    reader = BoundsLog()
    with path.open("ab", buffering=0) as writer:
        writer.write(b"large 1\nsat")
        assert (reader.is_large(1), reader.has_saturated(2)) == (True, False)
        writer.write(b"urated 2\nlarge 3")
        assert (reader.has_saturated(2), reader.is_large(3)) == (True, False)
        writer.write(b"\n")
    assert reader.is_large(3)


def test_many_processes_write_at_once(path: Path) -> None:
    code = (
        "import sys; from server.vllm.bounds.log import BoundsLog; log = BoundsLog()\n"
        "for n in range(300): log.note_saturated(int(sys.argv[1]) + n)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(1000 * n)], env={**os.environ})
        for n in range(3)
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    reader = BoundsLog()
    assert all(reader.has_saturated(1000 * n + i) for n in range(3) for i in range(300))


def test_the_watch_tells_of_an_adapter_what_happened_to_it(path: Path) -> None:
    watch, reader = Watch(), BoundsLog()
    watch.begin(3)
    assert (watch.watches(3), watch.watches(4), watch.watches(None)) == (True, False, False)
    assert (reader.is_large(3), reader.has_saturated(3)) == (True, False)
    watch.saturated(3)
    watch.saturated(None)
    assert reader.has_saturated(3)


def test_preparing_twice_keeps_the_file_and_it_goes_with_its_process() -> None:
    code = (
        "import os; from server.vllm.bounds.log import PATH_VARIABLE, prepare; prepare()\n"
        "path = os.environ[PATH_VARIABLE]; prepare(); assert os.environ[PATH_VARIABLE] == path\n"
        "print(path)"
    )
    environment = {k: v for k, v in os.environ.items() if k != PATH_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert not Path(done.stdout.strip()).exists()
