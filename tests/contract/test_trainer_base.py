"""A trainer on another base model than the registry's does not begin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.bases import write_base

from adapters.bases import Bases, identify
from adapters.registry import Registry
from adapters.types import ArtifactInfo
from core.database import Database
from core.identity.tenants import TenantStore
from core.ids import Digest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKER = """
from core.settings import Settings
from support.toy_kind import Count
from trainer.worker import Worker
Worker(Settings(), [Count]).run(lambda: True)
print("began")
"""


def start(home: Path, url: str, model: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "ATTUNE_HOME": str(home),
        "ATTUNE_DATABASE_URL": url,
        "ATTUNE_MODEL": str(model),
        **more,
    }
    return subprocess.run(
        [sys.executable, "-c", WORKER], env=environment, capture_output=True, text=True, timeout=60
    )


def test_it_ends_and_says_why_until_the_base_is_meant_to_change(
    tmp_path: Path, sqlite: Database
) -> None:
    database, database_url = sqlite, sqlite.url
    old, new = (write_base(tmp_path / name, fill) for name, fill in (("old", 1.0), ("new", 2.0)))
    base = identify(str(old), tmp_path)
    Bases(database).bind(base)
    adapter = Registry(database).create(TenantStore(database).create("acme").id, "support")
    info = ArtifactInfo(Digest("c" * 64), 1, 8, ("q_proj",), base.digest)
    Registry(database).add_version(adapter.id, info, source="run")
    (home := tmp_path / "home").mkdir()
    refused = start(home, database_url, new)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"made for the base model {old}" in refused.stderr
    asked = refused.stderr.partition("ATTUNE_ACCEPT_BASE=")[2][:12]
    assert start(home, database_url, new, ATTUNE_ACCEPT_BASE=asked).stdout == "began\n"
