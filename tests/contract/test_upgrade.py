"""An installation of the release before the ledger goes on after the upgrade, and loses nothing.

`release_before/` was made by that release. It held an adapter `support` with a live version and
six thumbs; a rejected run, a failed one, and one whose worker was killed (-9) while it judged the
second of two candidates, the first having failed the gate; a ready export, one of the base
beside it, a cancelled one, one whose worker was killed while it built, and a queued one. Training,
measuring and building were stand-ins. `rows.json` is the database's rows by table, `dbos.sql` the
dump of DBOS's own, `home.json` the text of every other file of the home, `shown.json` what that
release answered over HTTP, by path.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from support.door import open_door

from adapters.registry import Registry
from adapters.validate import read_base
from core.database import Database
from core.settings import SHIPPED_MODEL
from core.work.ledger import Ledger
from core.work.watermarks import Watermarks
from deploy.bench.adapters import write_adapter
from deploy.export.request import EXPORT
from trainer.types import RUN

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "release_before"
ROOT = Path(__file__).parents[2]
SHOWN: dict[str, Any] = json.loads((HERE / "shown.json").read_text())
ROWS: dict[str, list[dict[str, Any]]] = json.loads((HERE / "rows.json").read_text())


def migrate(database: Database, revision: str, *, back: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "core" / "migrations"))
    config.attributes["database"] = database
    step = command.downgrade if back else command.upgrade
    step(config, revision)


def rows_of(database: Database) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table the release before had, as it left them."""
    metadata = sa.MetaData()
    with database.read() as connection:
        metadata.reflect(connection)
        return {
            name: [
                dict(row)
                for row in connection.execute(
                    sa.select(metadata.tables[name]).order_by(*metadata.tables[name].primary_key)
                ).mappings()
            ]
            for name in ROWS
        }


@pytest.fixture
def former(empty_url: str) -> Iterator[Database]:
    """The database as the release before left it."""
    database = Database(empty_url)
    fill(database)
    yield database
    database.dispose()


def fill(database: Database) -> None:
    migrate(database, "0003")
    metadata = sa.MetaData()
    with database.write() as connection:
        metadata.reflect(connection)
        for name, rows in ROWS.items():
            table = metadata.tables[name]
            for column in table.columns:
                if isinstance(column.type, sa.JSON):
                    column.type = sa.JSON(none_as_null=True)
            connection.execute(table.insert(), rows)
        for name in () if database.is_sqlite else ("run_events", "changes"):
            counter = f"pg_get_serial_sequence('{name}', 'id')"
            connection.exec_driver_sql(f"SELECT setval({counter}, max(id)) FROM {name}")


def as_before(shown: Any) -> Any:
    """Without the texts that a run has since, none for one that is older."""
    if isinstance(shown, list):
        return [as_before(one) for one in shown]
    if not isinstance(shown, dict):
        return shown
    if shown.get("object") == "run":
        assert shown.pop("samples") == []
    return {name: as_before(value) for name, value in shown.items()}


async def test_http_shows_what_the_release_before_showed(former: Database, tmp_path: Path) -> None:
    door = await open_door(tmp_path, former.engine.url.render_as_string(hide_password=False))
    async with door.client("acme", "train") as client:
        for path, shown in SHOWN.items():
            response = await client.get(path)
            assert (response.status_code, as_before(response.json())) == (200, shown)
    await door.runtime.stop()


def test_what_asks_the_database_finds_the_moved_work(former: Database) -> None:
    former.upgrade()
    runs, exports = Ledger(former, RUN), Ledger(former, EXPORT)
    (run,) = runs.active()
    assert run.adapter_id is not None
    assert Watermarks(former).of([run.adapter_id])[run.adapter_id] == ROWS["feedback"][-1]["seq"]
    assert Watermarks(former).newest_feedback_at_s(run.id) == run.facts.last_feedback_at_s
    (done,) = [row for row in ROWS["exports"] if row["manifest"] and row["layout"] == "merged"]
    where = {"request_key": done["request_key"], "state": "ready"}
    (again,) = exports.list(run.tenant_id, where).items
    assert again.id == done["id"]
    facts = again.facts
    queued = next(row for row in ROWS["exports"] if row["state"] == "queued")
    work, is_new = exports.open(run.tenant_id, queued["request_key"], facts)
    assert (work.id, is_new) == (queued["id"], False)
    last = runs.events(run.id)[-1].id
    runs.event(run.id, "message", "after the upgrade")
    assert runs.events(run.id)[-1].id > last


def test_a_downgrade_gives_back_every_row(former: Database) -> None:
    before = rows_of(former)
    former.upgrade()
    migrate(former, "0003", back=True)
    assert rows_of(former) == before
    former.upgrade()


def test_the_worker_carries_what_was_half_done_to_its_end(tmp_path: Path) -> None:
    """DBOS is real: what it remembers of the work names classes where they no longer are."""
    home = tmp_path / "home"
    for name, text in json.loads((HERE / "home.json").read_text()).items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    with sqlite3.connect(home / "dbos.db") as connection:
        connection.executescript((HERE / "dbos.sql").read_text())
    connection.close()
    database = Database(f"sqlite:///{home / 'attune.db'}")
    fill(database)
    database.upgrade()
    runs, exports = Ledger(database, RUN), Ledger(database, EXPORT)
    (run,) = runs.active()
    half, queued = exports.active()
    folder = home / "runs" / run.id / "kto-continued"
    write_adapter(folder, read_base(str(SHIPPED_MODEL)), seed=1, rank=4)
    (mode := tmp_path / "mode").write_text("ok")
    worker = start_worker(home, mode)
    try:
        for ledger, work in ((runs, run), (exports, half), (exports, queued)):
            until(lambda: not ledger.find(work.id).is_active, f"the end of {work.id}")  # noqa: B023
        until(lambda: left_over(home) == [], "the tidying")
    finally:
        worker.kill()
        worker.wait()
    ended = runs.find(run.id)
    assert (ended.state, ended.error, ended.facts.version) == ("succeeded", None, 2)
    assert ended.facts.verdict is not None
    assert ended.facts.verdict.reasons == ("preference margin: 0.8 of 10",)
    assert run.adapter_id is not None
    assert Registry(database).by_id(run.adapter_id).live_version == 2
    trained = [event for event in runs.events(run.id) if event.message.startswith("Training")]
    assert len(trained) == 2  # neither was trained again
    judged = [
        event.message.split(":")[0] for event in runs.events(run.id) if "gate" in event.message
    ]
    assert judged == ["kto-fresh", "kto-continued"]
    built = [json.loads(line)["job"] for line in Path(f"{mode}.asked").read_text().splitlines()]
    assert [(job["layout"], job["adapter"]["number"]) for job in built] == [
        ("base+adapters", 1),  # its base was exported before
        ("merged", 1),
    ]
    for work in (half, queued):
        assert (exports.find(work.id).state, exports.find(work.id).error) == ("ready", None)
    database.dispose()


def start_worker(home: Path, mode: Path) -> subprocess.Popen[bytes]:
    support = ROOT / "tests" / "support"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ATTUNE_HOME": str(home),
        "ATTUNE_TRAINER_POLL_S": "0.05",
    }
    builder = [sys.executable, str(support / "fake_exporter.py"), str(mode)]
    command_line = [sys.executable, str(support / "former_worker.py"), *builder]
    return subprocess.Popen(command_line, env=environment, cwd=ROOT)


def left_over(home: Path) -> list[Path]:
    return [path for name in ("runs", "exports") for path in (home / name).iterdir()]


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
