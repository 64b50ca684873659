"""Workers tell how they are: that they look for work, and what keeps them from it."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from support.door import Door, open_door
from support.toy_kind import Count

from core.database import Database
from core.work.workers import Worker, Workers
from deploy.kinds import KINDS
from deploy.processes.supervisor import _Trainer
from trainer.heart import Heart, trouble_of

from .test_extending_work import start_worker

pytestmark = pytest.mark.slow


def test_a_good_look_ends_a_trouble_and_a_trouble_keeps_the_last_good_look(
    database: Database,
) -> None:
    workers = Workers(database)
    workers.in_trouble("a", "broken")
    (a,) = workers.all()
    assert (a.id, a.looked_at_s, a.trouble) == ("a", None, "broken")
    workers.looked("a")
    (a,) = workers.all()
    assert a.trouble is None
    assert a.looked_at_s is not None
    workers.in_trouble("a", "again")
    (again,) = workers.all()
    assert (again.looked_at_s, again.trouble) == (a.looked_at_s, "again")
    workers.looked("b" * 100)
    assert [(one.id[:1], len(one.id)) for one in workers.all()] == [("b", 64), ("a", 1)]


class Told:
    """Workers that remember what they were told, in its order."""

    def __init__(self, database: Database) -> None:
        self.workers = Workers(database)

    def now(self) -> Worker:
        (one,) = self.workers.all()
        return one


def test_a_heart_tells_a_trouble_once_and_its_end_at_once(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(sqlite)
    heart = Heart(told.workers, "a", durable=None)
    heart.beat()
    first = told.now()
    heart.beat()
    assert told.now() == first  # so soon after it is not written again
    heart.miss(KeyError("secret"))
    troubled = told.now()
    assert troubled.trouble is not None
    assert "KeyError" in troubled.trouble
    assert "secret" not in troubled.trouble
    heart.miss(KeyError("secret"))
    assert told.now() == troubled
    heart.beat()
    assert told.now().trouble is None


def test_what_ends_a_worker_is_told_and_passed_on(sqlite: Database) -> None:
    told = Told(sqlite)
    with pytest.raises(RuntimeError), Heart(told.workers, "a", durable=None).telling():
        raise RuntimeError("postgresql://u:p@host/attune is away")
    assert "RuntimeError" in str(told.now().trouble)
    assert "host" not in str(told.now().trouble)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"garbage" * 1000), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "is damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be opened"),
        (lambda path: None, "RuntimeError"),
    ],
    ids=["garbage", "cut off", "a folder", "sound"],
)
def test_a_damaged_file_of_dbos_is_known_by_looking(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "dbos.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 900,)] * 30)
    connection.close()
    spoil(path)
    told = trouble_of(RuntimeError("secret"), path)
    assert said in told
    assert str(tmp_path) not in told


@pytest_asyncio.fixture
async def door(tmp_path: Path, sqlite: Database) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, sqlite.url, (*KINDS, Count))
    yield opened
    await opened.runtime.stop()


async def test_a_damaged_dbos_is_told_and_work_goes_on_once_it_is_moved_away(
    door: Door, tmp_path: Path
) -> None:
    told = Workers(door.runtime.database)
    (tmp_path / "dbos.db").write_bytes(b"garbage" * 1000)
    async with door.client("acme", "train") as client:
        asked = (await client.post("/v1/counts", json={"text": "one two"})).json()
        broken = start_worker(door, tmp_path)
        assert broken.wait(60) != 0
        (worker,) = told.all()
        assert "dbos.db" in str(worker.trouble)
        assert "move" in str(worker.trouble)
        for path in tmp_path.glob("dbos.db*"):
            path.unlink()
        mended = start_worker(door, tmp_path)
        try:
            await _until(lambda: told.all()[0].trouble is None)
            deadline = time.monotonic() + 60
            while (await client.get(f"/v1/counts/{asked['id']}")).json()["state"] != "counted":
                assert time.monotonic() < deadline
        finally:
            mended.kill()
            mended.wait()


def test_the_supervisor_tells_of_a_death_that_the_trainer_cannot_tell_of(door: Door) -> None:
    trainer = _Trainer(door.runtime.settings)
    trainer._report(-signal.SIGKILL)
    (worker,) = Workers(door.runtime.database).all()
    assert "SIGKILL" in str(worker.trouble)


async def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
