"""A real server that is told to stop, with answers under way and while it loads."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.tenant import Tenant

from core.identity.tenants import TenantStore
from deploy.processes.server_process import ServerProcess
from feedback.interactions import InteractionStore
from feedback.types import Interaction

DRAIN_S = 1.0  # time to ask whether it drains, less than any of the long answers takes
LONG = {"model": "base", "max_tokens": 900, "ignore_eos": True, "temperature": 1.5}
MESSAGES = [{"role": "user", "content": "Tell me all there is to tell."}]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    "text": ("/v1/completions", {"prompt": "All", "stream": True}),
    "responses": ("/v1/responses", {"input": "All", "stream": True, "max_output_tokens": 900}),
    "whole": ("/v1/chat/completions", {"messages": MESSAGES}),
}
SLOWING = 24  # more answers beside those: hardly one of 900 tokens ends within the drain
ENDS = (b'"finish_reason":"length"', b"event: response.completed", b"event: response.incomplete")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(
        tmp_path / "home",
        command=("-m", "deploy.cli.app", "serve", "--no-trainer"),
        environment={"ATTUNE_DRAIN_S": str(DRAIN_S)},
    )
    process.start()
    yield process
    process.kill()


@pytest.mark.parametrize("everybody", [False, True], ids=["SIGTERM to it", "Ctrl-C to all"])
def test_short_answers_end_and_long_ones_are_told_and_recorded(
    server: ServerProcess, everybody: bool
) -> None:
    tenant = Tenant(server, "acme", server.key("acme"))
    with tenant.http as http, ThreadPoolExecutor(40) as pool:
        said = {name: pool.submit(_ask, http, *asked) for name, asked in ASKED.items()}
        others = [pool.submit(_ask, http, *ASKED["chat"]) for _ in range(SLOWING)]
        _wait_until_answering(tenant, len(said) + len(others))
        short = pool.submit(_ask, http, ASKED["chat"][0], {**ASKED["chat"][1], "max_tokens": 2})
        told = time.monotonic()
        _wait_until_answering(tenant, len(said) + len(others) + 1, short)
        if everybody:
            os.killpg(server.pid, signal.SIGINT)
        else:
            os.kill(server.pid, signal.SIGTERM)
        _refuses_and_says_so(http)
        status, body = short.result()
        assert (status, body.rstrip().endswith(b"data: [DONE]")) == (200, True)
        assert b"shutting_down" not in body
        bodies = {name: one.result() for name, one in said.items()}
        bodies |= {str(number): one.result() for number, one in enumerate(others)}
    cut_off = 0
    for name, (status, body) in bodies.items():
        assert status == (503 if name == "whole" and b"shutting_down" in body else 200), name
        assert any(end in body for end in (b"shutting_down", *ENDS)), (name, body[-300:])
        cut_off += b"shutting_down" in body
    assert cut_off > SLOWING / 2
    assert psutil.Process(server.pid).wait(20) == 0
    assert time.monotonic() - told < DRAIN_S + 15
    with pytest.raises(OSError):
        socket.create_connection(_address(server), timeout=2)
    records = _recorded(server)
    failed = [record.response for record in records if record.outcome == "failed"]
    assert failed == [{"error": "shutting_down"}] * cut_off
    assert {record.outcome for record in records} == {"failed", "completed"}
    assert len(records) == len(bodies) + 1


def test_a_second_signal_ends_the_waiting(tmp_path: Path) -> None:
    server = ServerProcess(
        tmp_path / "home",
        command=("-m", "deploy.cli.app", "serve", "--no-trainer"),
        environment={"ATTUNE_DRAIN_S": "300"},
    )
    server.start()
    tenant = Tenant(server, "acme", server.key("acme"))
    with tenant.http as http, ThreadPoolExecutor(40) as pool:
        # A request whose body does not come holds the drain as well.
        host, port = _address(server)
        half = socket.create_connection((host, port))
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}"
        )
        half.sendall(f"{head}\r\ncontent-length: 99\r\n\r\n{{".encode())
        said = [pool.submit(_ask, http, *ASKED["chat"]) for _ in range(SLOWING)]
        _wait_until_answering(tenant, SLOWING)
        os.kill(server.pid, signal.SIGTERM)
        _refuses_and_says_so(http)
        os.kill(server.pid, signal.SIGTERM)
        bodies = [one.result()[1] for one in said]
    assert any(b"shutting_down" in body for body in bodies)
    assert b"503" in half.recv(100)
    assert psutil.Process(server.pid).wait(30) == 0


def test_a_server_that_still_loads_ends_at_once_and_takes_its_engine_along(tmp_path: Path) -> None:
    server = ServerProcess(
        tmp_path / "home", command=("-m", "deploy.cli.app", "serve", "--no-trainer")
    )

    def waiting(_: float) -> None:
        process = psutil.Process(server.pid)
        engines = [p for p in process.children(recursive=True) if "EngineCore" in p.name()]
        if engines:
            process.terminate()
            assert process.wait(10) == 0
            assert psutil.wait_procs(engines, timeout=10)[1] == []
            raise InterruptedError

    with pytest.raises(InterruptedError):
        server.start(waiting=waiting)


def _ask(http: httpx.Client, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    # One client for all: to make one each takes so long that the first are answered by then.
    response = http.post(path, json={**LONG, **body})
    return response.status_code, response.content


def _wait_until_answering(
    tenant: Tenant, count: int, unless: Future[tuple[int, bytes]] | None = None
) -> None:
    deadline = time.monotonic() + 60
    while not (unless and unless.done()):
        text = httpx.get(f"{tenant.server.url}/metrics").text
        lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
        if sum(float(line.rpartition(" ")[2]) for line in lines) >= count:
            return
        assert time.monotonic() < deadline, "the engine is not busy"


def _refuses_and_says_so(http: httpx.Client) -> None:
    deadline = time.monotonic() + 10
    while (health := http.get("/health")).status_code == 200:
        assert time.monotonic() < deadline
    assert (health.status_code, health.json()) == (503, {"status": "draining"})
    refused = http.get("/v1/models")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert refused.headers["connection"] == "close"
    assert refused.headers["retry-after"] == "1"


def _address(server: ServerProcess) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)


def _recorded(server: ServerProcess) -> tuple[Interaction, ...]:
    database = server.database()
    tenant = TenantStore(database).by_name("acme")
    items = InteractionStore(database).list(tenant.id, limit=200).items
    database.dispose()
    return tuple(items)
