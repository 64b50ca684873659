"""A real `attune serve` on loopback, as a child process: for the demo, the tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from core.child_process import dying_with_parent
from core.database import Database
from core.errors import NotFound, Unavailable
from core.identity.keys import parse_scopes
from core.identity.tenants import TenantStore
from core.identity.types import SCOPES


class ServerProcess:
    """One running server with its own home folder; `url` ends without /v1.

    It ends with the process that started it unless it `outlives` that.
    """

    def __init__(
        self,
        home: Path,
        *,
        command: tuple[str, ...] = ("-m", "deploy.cli.app", "serve"),
        environment: Mapping[str, str] | None = None,
        outlives: bool = False,
    ) -> None:
        self.home = home.resolve()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = self.home / "server.log"
        self._arguments = (*command, "--port", str(port))
        self._environment = {
            **os.environ,
            "ATTUNE_HOME": str(self.home),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._outlives = outlives
        self._process: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """The process id of the API server."""
        assert self._process is not None
        return self._process.pid

    def start(
        self, *, timeout_s: float = 300.0, waiting: Callable[[float], None] | None = None
    ) -> None:
        """Start and wait until it is healthy. Raises Unavailable with the end of its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=None if self._outlives else dying_with_parent(),
            )
        began = time.monotonic()
        while not self.healthy():
            elapsed = time.monotonic() - began
            if self._process.poll() is not None or elapsed > timeout_s:
                self.kill()
                raise Unavailable(f"The server did not start. {self.tail()}")
            if waiting is not None:
                waiting(elapsed)
            time.sleep(0.1)

    def healthy(self) -> bool:
        """Whether it answers /health."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2):
            return True  # anything but a 2xx is an error, which is an OSError
        return False

    def stop(self, timeout_s: float = 30.0) -> None:
        """Ask it to end, then make sure."""
        process = self._process
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End the whole process group at once, as kill -9 does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"Its log ({self.log}) ends:\n" + "\n".join(text.splitlines()[-lines:])

    def database(self) -> Database:
        """The database the server uses."""
        url = self._environment.get("ATTUNE_DATABASE_URL") or f"sqlite:///{self.home}/attune.db"
        return Database(url)

    def key(self, tenant: str, *scopes: str) -> str:
        """A new key of a tenant, which is created if need be; all scopes if none is named."""
        database = self.database()
        database.upgrade()
        store = TenantStore(database)
        try:
            found = store.by_name(tenant)
        except NotFound:
            found = store.create(tenant)
        wanted = parse_scopes(list(scopes or SCOPES))
        _, text = store.create_key(found.id, wanted)
        database.dispose()
        return text
