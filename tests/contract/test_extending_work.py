"""A new kind of durable work is one class and one line: routes and worker follow from it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import sqlalchemy as sa
from support.door import Door, open_door
from support.toy_kind import Count

from core.database import Database
from deploy.kinds import KINDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def door(tmp_path: Path, database_url: str) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, database_url, (*KINDS, Count))  # the one line
    yield opened
    await opened.runtime.stop()


async def until_ended(client: httpx.AsyncClient, work_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        seen: dict[str, Any] = (await client.get(f"/v1/counts/{work_id}")).json()
        if seen["state"] not in ("queued", "counting"):
            return seen
        assert time.monotonic() < deadline, "the worker did not come"


async def test_a_new_kind_is_ordered_carried_out_and_shown(door: Door, tmp_path: Path) -> None:
    worker = start_worker(door, tmp_path)
    try:
        async with door.client("acme", "train") as client:
            asked = await client.post("/v1/counts", json={"text": "one two three"})
            assert (asked.status_code, asked.json()["state"]) == (202, "queued")
            done = await until_ended(client, asked.json()["id"])
            assert (done["object"], done["state"], done["words"]) == ("count", "counted", 3)
            log = (await client.get(f"/v1/counts/{done['id']}/events")).json()["data"]
            assert [(line["object"], line["data"]) for line in log] == [
                ("count.event", {"words": 3})
            ]
            for text, words in (("forbidden", "not counted"), ("broken", "KeyError")):
                bad = (await client.post("/v1/counts", json={"text": text})).json()
                ended = await until_ended(client, bad["id"])
                assert ended["state"] == "failed"
                assert words in ended["error"]
            endless = (await client.post("/v1/counts", json={"text": "endless"})).json()
            while (await client.get(f"/v1/counts/{endless['id']}")).json()["state"] == "queued":
                pass
            asked = await client.post(f"/v1/counts/{endless['id']}/cancel")
            assert (asked.status_code, asked.json()["state"]) == (200, "counting")
            stopped = await until_ended(client, endless["id"])
            assert (stopped["state"], stopped["error"]) == ("cancelled", "The count was cancelled.")
            listed = (await client.get("/v1/counts", params={"limit": 2})).json()
            assert [one["state"] for one in listed["data"]] == ["cancelled", "failed"]
            assert listed["has_more"] is True
            rest = await client.get("/v1/counts", params={"after": listed["last_id"]})
            assert [one["state"] for one in rest.json()["data"]] == ["failed", "counted"]
            assert (await client.post(f"/v1/counts/{done['id']}/cancel")).status_code == 409
            # Elsewhere it does not exist, and it has no files.
            assert (await client.get(f"/v1/runs/{done['id']}")).status_code == 404
            assert (await client.get(f"/v1/counts/{done['id']}/files/x")).status_code == 404
        left = tmp_path / "counts"
        deadline = time.monotonic() + 20
        while list(left.iterdir()):
            assert time.monotonic() < deadline, "what was left is not removed"
    finally:
        worker.kill()
        worker.wait()


async def test_what_a_killed_worker_left_goes_on_once_the_next_is_prepared(
    door: Door, tmp_path: Path
) -> None:
    worker = start_worker(door, tmp_path)
    try:
        async with door.client("acme", "train") as client:
            asked = (await client.post("/v1/counts", json={"text": "interrupted"})).json()
            deadline = time.monotonic() + 60
            while not (tmp_path / "counts" / asked["id"] / "tried").exists():
                assert time.monotonic() < deadline, "the worker did not come"
            worker.kill()
            worker.wait()
            worker = start_worker(door, tmp_path)
            done = await until_ended(client, asked["id"])
            assert (done["state"], done["error"]) == ("counted", None)
    finally:
        worker.kill()
        worker.wait()


async def test_work_under_way_outlasts_trouble_of_the_database_and_so_does_its_worker(
    door: Door, tmp_path: Path
) -> None:
    worker = start_worker(door, tmp_path)
    try:
        async with door.client("acme", "train") as client:
            asked = (await client.post("/v1/counts", json={"text": "endless"})).json()
            deadline = time.monotonic() + 60
            while (await client.get(f"/v1/counts/{asked['id']}")).json()["state"] == "queued":
                assert time.monotonic() < deadline, "the worker did not come"
            await asyncio.to_thread(disturb, door.runtime.database, for_s=1.5)
            cancelled = await client.post(f"/v1/counts/{asked['id']}/cancel")
            assert cancelled.json()["state"] == "counting"  # it has not failed meanwhile
            assert (await until_ended(client, asked["id"]))["state"] == "cancelled"
            asked = (await client.post("/v1/counts", json={"text": "one two"})).json()
            assert (await until_ended(client, asked["id"]))["words"] == 2
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()


def disturb(database: Database, *, for_s: float) -> None:
    """Hold a SQLite file's lock; end every connection to a Postgres, again and again."""
    ends = time.monotonic() + for_s
    if database.is_sqlite:
        with database.write():
            time.sleep(for_s)
        return
    others = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    lone = Database(database.url)
    ended = 0
    with lone.read() as connection:
        while time.monotonic() < ends:
            ended += len(connection.execute(others).all())
            time.sleep(0.05)
    assert ended > 10
    lone.dispose()


async def test_a_new_kind_is_cancelled_filtered_and_guarded(door: Door) -> None:
    async with door.client("acme", "train") as client:
        asked = (await client.post("/v1/counts", json={"text": "a b"})).json()
        assert (await client.post("/v1/counts", json={"text": "a b"})).json() == asked
        for body in ({}, {"text": 5}, {"text": "a", "colour": "red"}):
            refused = await client.post("/v1/counts", json=body)
            assert (refused.status_code, set(refused.json())) == (400, {"error"})
        cancelled = await client.post(f"/v1/counts/{asked['id']}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    async with door.client("acme", "inference") as client:
        assert (await client.get("/v1/counts")).status_code == 403
    async with door.client("other", "train") as client:
        assert (await client.get(f"/v1/counts/{asked['id']}")).status_code == 404
        assert (await client.get("/v1/counts")).json()["data"] == []


def start_worker(door: Door, home: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ATTUNE_HOME": str(home),
        "ATTUNE_DATABASE_URL": door.runtime.settings.resolved_database_url(),
        "ATTUNE_TRAINER_POLL_S": "0.05",
    }
    program = ROOT / "tests" / "support" / "toy_kind.py"
    return subprocess.Popen([sys.executable, str(program)], env=environment, cwd=ROOT)
