"""Requests that never become whole hold nothing up and are not held for long."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.tenant import Tenant

HELD = 1_200
DEADLINE_S = 10.0 + 5.0  # ATTUNE_HEADER_TIMEOUT_S, and a slow machine
QUICK_S = 1.0


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], HELD * 2), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_1200_half_requests_are_gone_soon_and_everybody_else_is_answered(
    victim: Tenant, many_files: None
) -> None:
    """From the victim's own address, as behind one router."""
    host, _, port = victim.server.url.removeprefix("http://").partition(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    kinds = [
        head + b"x-a: ",
        head + b"content-length: 100\r\n\r\n{",  # without a key: answered at once
        b"",
        b"G",
    ]

    async def hold(sent: bytes) -> tuple[float, bytes]:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        began, said = time.monotonic(), b""
        with contextlib.suppress(ConnectionError):
            while more := await asyncio.wait_for(reader.read(65_536), 60):
                said += more
                if b" 401 " in said:
                    break
        writer.close()
        return time.monotonic() - began, said

    held = [asyncio.create_task(hold(kinds[at % 4])) for at in range(HELD)]
    slowest = await asyncio.to_thread(_ask_and_rate, victim, held)
    ended = await asyncio.gather(*held)
    assert slowest < QUICK_S
    late = [took for (took, _), at in zip(ended, range(HELD), strict=True) if at % 4 != 1]
    assert max(late) < DEADLINE_S
    statuses = Counter(said.split(b" ")[1] for _, said in ended if said)
    assert statuses[b"408"] > HELD / 8
    assert set(statuses) <= {b"401", b"408", b"503"}
    text = httpx.get(f"{victim.server.url}/metrics").text
    assert 'attune_connections_cut_off_total{reason="head"}' in text


def _ask_and_rate(victim: Tenant, held: list[Any]) -> float:
    """The slowest of what others do meanwhile, in seconds; each on a connection of its own."""
    slowest = 0.0
    answer = victim.ask("base", "Where is the harbour?", max_tokens=4)
    for number in range(20):
        began = time.monotonic()
        with victim.http as http:
            item = {"id": f"f-{number}", "completion_id": answer.id, "value": True}
            assert http.post("/v1/feedback", json=item).status_code in (200, 201)
        slowest = max(slowest, time.monotonic() - began)
    assert not all(task.done() for task in held), "nobody was held any more"
    return slowest
