"""Uploads that cost as much as they can, six at once: nobody else notices."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file
from support.tenant import Tenant

from adapters.validate import read_base
from core.identity.tenants import TenantStore
from core.settings import SHIPPED_MODEL
from deploy.processes.server_process import ServerProcess

ATTACKERS = 6
PROMISED_S = 1.0

TAKEN = "as many keys as are taken"
ATTACKS: dict[str, dict[str, Any]] = {
    "a hundred thousand keys": {"rank_pattern": {f"module_{at}": 4 for at in range(100_000)}},
    "keys without an end": {"rank_pattern": {"([a-z0-9_.]+)+X": 4, "(.*.*)*(.*)*X": 4}},
    TAKEN: {"alpha_pattern": {f".*{at}" + "x?" * 50: 1 for at in range(200)}},
    "nested": {"auto_mapping": json.loads("[" * 900 + "]" * 900)},
}


def attack(folder: Path, changed: dict[str, Any]) -> Path:
    """An adapter of all modules with a configuration that is dear to read."""
    folder.mkdir()
    tensors: dict[str, Any] = {}
    for module, (outputs, inputs) in read_base(str(SHIPPED_MODEL)).shapes.items():
        if module.endswith("_proj"):
            stem = f"base_model.model.{module}"
            tensors[f"{stem}.lora_A.weight"] = np.zeros((4, inputs), np.float32)
            tensors[f"{stem}.lora_B.weight"] = np.zeros((outputs, 4), np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changed}))
    return folder


@contextmanager
def attacks(server: ServerProcess, folder: Path, *, one_tenant: bool) -> Iterator[list[int]]:
    """Six clients upload again and again; the statuses they get."""
    names = [f"a-{uuid.uuid4().hex[:8]}" for _ in range(1 if one_tenant else ATTACKERS)]
    tenants = [Tenant(server, name, server.key(name)) for name in names] * ATTACKERS
    statuses: list[int] = []
    end = threading.Event()

    def upload(tenant: Tenant) -> None:
        while not end.is_set():
            statuses.append(tenant.push("dear", folder).status_code)

    threads = [threading.Thread(target=upload, args=(one,)) for one in tenants[:ATTACKERS]]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        end.set()
        for thread in threads:
            thread.join()


def checks(server: ServerProcess) -> int:
    """Uploads that are being checked."""
    children = psutil.Process(server.pid).children(recursive=True)
    return sum(any("adapters.intake" in part for part in _command(child)) for child in children)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


def until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def seconds_until_refused(victim: Tenant, key: str) -> float:
    """From the revocation of a key that works to the first refusal."""
    body = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}

    def status() -> int:
        headers = {"authorization": f"Bearer {key}"}
        url = f"{victim.server.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=60).status_code

    assert status() == 200
    database = victim.server.database()
    TenantStore(database).revoke_key(key)
    database.dispose()
    began = time.monotonic()
    while status() != 401:
        assert time.monotonic() - began < 30
    return time.monotonic() - began


QUICK = ("a hundred thousand keys", "keys without an end")
CASES = [
    pytest.param(name, one_tenant, marks=[] if name in QUICK else [pytest.mark.drill])
    for name in ATTACKS
    for one_tenant in (True, False)
]


@pytest.mark.parametrize(("name", "one_tenant"), CASES)
def test_feedback_and_revocations_do_not_wait_for_dear_uploads(
    server: ServerProcess, victim: Tenant, tmp_path: Path, name: str, one_tenant: bool
) -> None:
    allowed = {201} if name == TAKEN else set()
    folder = attack(tmp_path / "dear", ATTACKS[name])
    completion_id = victim.ask("base", "Hi", max_tokens=1).id

    def thumb() -> None:
        item = {"completion_id": completion_id, "value": True, "id": uuid.uuid4().hex}
        assert http.post("/v1/feedback", json=item).status_code == 201

    with victim.http as http, attacks(server, folder, one_tenant=one_tenant) as statuses:
        until(lambda: bool(statuses) or checks(server) > 0)
        took = [seconds(thumb) for _ in range(20)]
        refused = seconds_until_refused(victim, server.key(victim.name))
        created = seconds(lambda: victim.http.get("/v1/adapters"))
    assert max([*took, refused, created]) < PROMISED_S
    assert set(statuses) <= {400, 429} | allowed
    answer = victim.ask("base", "Hi", max_tokens=4)
    assert answer.model == "base"


@pytest.mark.drill
def test_a_stopped_server_ends_its_checks(tmp_path: Path) -> None:
    """SIGTERM waits for no upload."""
    process = ServerProcess(
        tmp_path / "home", command=("-m", "deploy.cli.app", "serve", "--no-trainer")
    )
    process.start()
    folder = attack(tmp_path / "dear", ATTACKS["keys without an end"])
    tenant = Tenant(process, "acme", process.key("acme"))
    tenant.http.post("/v1/adapters", json={"name": "dear"})
    thread = threading.Thread(target=lambda: _ignoring(lambda: tenant.push("dear", folder)))
    thread.start()
    until(lambda: checks(process) == 1)
    assert seconds(process.stop) < 15
    thread.join()


def _ignoring(work: Callable[[], object]) -> None:
    try:
        work()
    except httpx.HTTPError:
        return
