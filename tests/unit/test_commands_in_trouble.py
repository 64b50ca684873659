"""Commands on a database in trouble: one line that says what to do, no traceback."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def attune(home: Path, *arguments: str, url: str = "", limit: int = 0) -> tuple[int, list[str]]:
    """Exit status and lines of standard error."""

    def limited() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.app", *arguments],
        env={
            **os.environ,
            "ATTUNE_HOME": str(home),
            "ATTUNE_DATABASE_URL": url,
            "ATTUNE_DATABASE_WAIT_S": "0.3",
        },
        capture_output=True,
        text=True,
        preexec_fn=limited,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()


def damage(home: Path) -> None:
    (home / "attune.db").write_bytes(b"\xff" * 10_000)


def in_the_way(home: Path) -> None:
    (home / "attune.db").mkdir()


def newer(home: Path) -> None:
    with sqlite3.connect(home / "attune.db") as made:
        made.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        made.execute("INSERT INTO alembic_version VALUES ('9999')")


@pytest.mark.parametrize("cause", [damage, in_the_way, newer])
def test_a_database_that_cannot_be_opened_is_one_line(
    tmp_path: Path, cause: Callable[[Path], None]
) -> None:
    cause(tmp_path)
    status, lines = attune(tmp_path, "tenants", "list")
    assert status == 1
    assert [line.startswith("error: ") for line in lines[-1:]] == [True]
    assert not any("Traceback" in line or "sqlalchemy" in line for line in lines)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    status, lines = attune(tmp_path, "tenants", "create", "acme", limit=20_000)
    assert (status, lines[-1].startswith("error: ")) == (1, True)
    assert not any("Traceback" in line for line in lines)


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, lines = attune(tmp_path / "file" / "home", "keys", "list")
    assert (status, len(lines)) == (1, 1)
    assert "ATTUNE_HOME" in lines[0]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:secret@127.0.0.1:1/attune",
        "postgresql://user:secret@127.0.0.1:port/attune",
        "mysql://user:secret@host/attune",
    ],
)
def test_an_address_that_does_not_answer_or_parse_is_told_without_its_password(
    tmp_path: Path, url: str
) -> None:
    status, lines = attune(tmp_path, "tenants", "list", url=url)
    assert (status, lines[-1].startswith("error: ")) == (1, True)
    assert "secret" not in "".join(lines)
    assert "Traceback" not in "".join(lines)
