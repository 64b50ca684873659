"""Everything one tenant has ever hurt others with, again and again and all at once."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from core.settings import SHIPPED_MODEL
from support.absurd import constant, for_one_token, write_adapter
from support.tenant import Tenant

BASE = Path(SHIPPED_MODEL)
RARE, TRIED = 1001, range(0, 1792, 14)
ELSEWHERE = "127.0.0.2"
"""Another address than the victim's."""

AT_ONCE = {"endless rank_pattern": 6}
"""How many do the same; else one."""


class Attacker(Tenant):
    """A tenant that hangs up after a while, and comes back."""

    @property
    def http(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.server.url, headers=headers, timeout=10)


Attack = Callable[[Tenant], httpx.Response]


def absurd_weights(folder: Path) -> Attack:
    """Weights the trial finds out, and weights only an answer does."""
    evil = write_adapter(folder / "evil", BASE, constant(1e20))
    fill = for_one_token(BASE, RARE, TRIED, size=1e16)
    sly = write_adapter(folder / "sly", BASE, fill, modules=["v_proj"])

    def attack(tenant: Tenant) -> httpx.Response:
        tenant.push("evil", evil)
        tenant.push("sly", sly)
        with tenant.http as http:
            http.post("/v1/adapters/sly/activate", json={"version": 1, "force": True})
            asked = {"model": "sly", "prompt": [*range(100, 140), RARE], "max_tokens": 60}
            return http.post("/v1/completions", json={**asked, "ignore_eos": True})

    return attack


def endless_config(folder: Path) -> Attack:
    """An upload whose configuration names 100,000 patterns."""
    path = write_adapter(folder / "ordinary", BASE, constant(0.01), rank=4)
    config = json.loads((path / "adapter_config.json").read_text())
    endless = Path(shutil.copytree(path, folder / "endless"))
    config["rank_pattern"] = {f"layers.{number}.q_proj": 4 for number in range(100_000)}
    (endless / "adapter_config.json").write_text(json.dumps(config))
    return lambda tenant: tenant.push("endless", endless)


def _asking(**options: object) -> Attack:
    """A chat request with something of a size nobody needs."""
    asked = {
        "model": "base",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 4,
        **options,
    }
    body = json.dumps(asked).encode()

    def attack(tenant: Tenant) -> httpx.Response:
        with tenant.http as http:
            kind = {"content-type": "application/json"}
            return http.post("/v1/chat/completions", content=body, headers=kind)

    return attack


def attacks(folder: Path) -> dict[str, Attack]:
    """By name; each is one round of it."""
    numbers = itertools.count()

    def choices(tenant: Tenant) -> httpx.Response:
        # Other ones each time: a compiled grammar is kept.
        first = next(numbers)
        texts = [f"{first}-{number} ".ljust(1_000, "x") for number in range(1_000)]
        return _asking(structured_outputs={"choice": texts})(tenant)

    return {
        "absurd weights": absurd_weights(folder),
        "endless rank_pattern": endless_config(folder),
        "choice of 1,000 x 1,000": choices,
        "bad_words of 900 kB": _asking(bad_words=[f"w{n:08}" for n in range(90_000)]),
        "60,000 messages": _asking(messages=[{"role": "user", "content": ""}] * 60_000),
    }


@contextmanager
def under_siege(
    attackers: dict[str, Tenant], folder: Path, *, half_requests: int
) -> Iterator[Counter[str]]:
    """All attacks for the length of the block; what came of their rounds, counted."""
    stop, done = threading.Event(), Counter[str]()

    def besiege(name: str, attack: Attack, tenant: Tenant) -> None:
        while not stop.is_set():
            try:
                done[f"{name}: {_told(attack(tenant))}"] += 1
            except httpx.HTTPError as error:
                done[f"{name}: {type(error).__name__}"] += 1

    def hold() -> None:
        _hold_half_requests(next(iter(attackers.values())), half_requests, stop, done)

    waves = attacks(folder)
    threads = [
        threading.Thread(target=besiege, args=(name, attack, attackers[name]))
        for name, attack in waves.items()
        for _ in range(AT_ONCE.get(name, 1))
    ]
    threads.append(threading.Thread(target=hold))
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _told(answer: httpx.Response) -> str:
    if answer.status_code < 400:
        return str(answer.status_code)
    return f"{answer.status_code} {answer.text[:110]!r}"


def _hold_half_requests(
    tenant: Tenant, count: int, stop: threading.Event, done: Counter[str]
) -> None:
    where = urlsplit(tenant.server.url)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    key = f"authorization: Bearer {tenant.key}\r\n".encode()
    halves = [head, head + key + b"content-length: 1000\r\n\r\n{"]
    held: list[socket.socket] = []
    while not stop.is_set():
        held = [one for one in held if _open(one)]
        for number in range(min(100, count - len(held))):
            with suppress(OSError):
                one = socket.create_connection(
                    (where.hostname or "", where.port or 0), 2, source_address=(ELSEWHERE, 0)
                )
                one.sendall(halves[number % 2])
                one.setblocking(False)
                held.append(one)
        done["half requests held at most"] = max(done["half requests held at most"], len(held))
        stop.wait(0.2)
    for one in held:
        one.close()


def _open(one: socket.socket) -> bool:
    """Whether the server has neither answered nor hung up."""
    try:
        one.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    one.close()
    return False


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def seconds(began: float) -> float:
    """Since then, by the monotonic clock."""
    return time.monotonic() - began
