"""A server for one benchmark: started on a fresh home, with a tenant, a key and adapters."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx

from adapters.artifacts.digest import ADAPTER_FILES
from core.errors import AttuneError
from deploy.edge.http import Server
from deploy.processes.server_process import ServerProcess
from deploy.terminal import Terminal

TENANT = "bench"
# Progress goes to stderr, so that stdout holds the results only.
progress = Terminal(stderr=True)


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, and a key with every scope on it; plain vLLM asks for none."""

    process: ServerProcess
    key: str

    @property
    def api(self) -> Server:
        """Its API, as the commands use it."""
        return Server(self.process.url, self.key)

    def push(self, name: str, folders: Sequence[Path]) -> None:
        """Make an adapter that never learns nor explores, with a version of each folder; the
        last one is live."""
        api = self.api
        learning = {"enabled": False, "exploration": 0.0}
        api.post("/v1/adapters", json={"name": name, "learning": learning})
        for folder in folders:
            files = [("file", (file, (folder / file).read_bytes())) for file in ADAPTER_FILES]
            api.post(f"/v1/adapters/{name}/versions", files=files)

    def session(self, connections: int) -> aiohttp.ClientSession:
        """A client with a connection for each request under way; make it inside the event loop."""
        return aiohttp.ClientSession(
            self.process.url,
            headers={"authorization": f"Bearer {self.key}"},
            timeout=aiohttp.ClientTimeout(total=120.0),
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=60.0),
        )

    def metrics(self) -> dict[str, float]:
        """Attune's own metrics now, by name with labels."""
        page = httpx.get(f"{self.process.url}/metrics", timeout=30).text
        pairs = (line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("attune_"))
        return {name: float(value) for name, value in pairs}


@contextmanager
def serving(
    title: str,
    environment: Mapping[str, str] | None = None,
    *,
    command: tuple[str, ...] = ("-m", "deploy.cli.app", "serve", "--no-trainer"),
) -> Iterator[Served]:
    """A server with the shipped model on a fresh home, by default `attune serve`; gone afterwards.

    Raises Unavailable with the end of its log if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as home:
        process = ServerProcess(Path(home), command=command, environment=environment)
        try:
            with progress.status(f"Starting {title} …"):
                process.start()
            try:
                yield Served(process, process.key(TENANT))
            except AttuneError:
                progress.print(process.tail(), highlight=False, markup=False)
                raise
        finally:
            process.stop()
