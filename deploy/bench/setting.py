"""A server for one benchmark: started on a fresh home, with a tenant, a key and adapters."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
from rich.console import Console

from adapters.artifacts.digest import ADAPTER_FILES
from core.errors import AttuneError
from deploy.client import Client
from deploy.processes.server_process import ServerProcess

TENANT = "bench"
# Progress goes to stderr, so that stdout holds the results only.
progress = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Served:
    """A running server and a key with every scope on it."""

    process: ServerProcess
    key: str

    def push(self, name: str, folders: Sequence[Path]) -> None:
        """Make an adapter that never learns nor explores, with a version of each folder; the
        last one is live."""
        api = Client(self.process.url, self.key)
        learning = {"enabled": False, "exploration": 0.0}
        api.post("/v1/adapters", json={"name": name, "learning": learning})
        for folder in folders:
            files = [("file", (file, (folder / file).read_bytes())) for file in ADAPTER_FILES]
            api.post(f"/v1/adapters/{name}/versions", files=files)

    def client(self, connections: int) -> httpx.AsyncClient:
        """An asynchronous client with a connection for each stream."""
        return httpx.AsyncClient(
            base_url=self.process.url,
            headers=self._headers(),
            timeout=120.0,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def streams(self, connections: int) -> aiohttp.ClientSession:
        """A session for streamed answers; make it inside the running event loop."""
        return _session(self.process.url, connections, self._headers())

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def metrics(self) -> dict[str, float]:
        """Attune's own metrics now, by name with labels."""
        page = httpx.get(f"{self.process.url}/metrics", timeout=30).text
        pairs = (line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("attune_"))
        return {name: float(value) for name, value in pairs}


@contextmanager
def serving(title: str, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """`attune serve` with the shipped model, without a trainer, on a fresh home; gone afterwards.

    Raises Unavailable with the end of its log if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as home:
        process = ServerProcess(
            Path(home), arguments=("--no-trainer",), environment=environment or {}
        )
        try:
            with progress.status(f"Starting {title} …"):
                process.start()
            served = Served(process, process.key(TENANT))
            try:
                yield served
            except AttuneError:
                progress.print(process.tail(), highlight=False, markup=False)
                raise
        finally:
            process.stop()


@dataclass(frozen=True, slots=True)
class Plain:
    """The same vLLM without the gateway: no keys."""

    process: ServerProcess

    def streams(self, connections: int) -> aiohttp.ClientSession:
        """A session for streamed answers; make it inside the running event loop."""
        return _session(self.process.url, connections, {})


@contextmanager
def serving_plain(environment: Mapping[str, str] | None = None) -> Iterator[Plain]:
    """vLLM with the flags `attune serve` gives it and nothing in front; gone afterwards.

    Raises Unavailable with the end of its log if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as home:
        process = ServerProcess(
            Path(home), command=("-m", "deploy.bench.plain"), environment=environment or {}
        )
        try:
            with progress.status("Starting plain vLLM …"):
                process.start()
            yield Plain(process)
        finally:
            process.stop()


def _session(url: str, connections: int, headers: Mapping[str, str]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        url,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=120.0),
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=60.0),
    )
