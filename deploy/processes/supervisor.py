"""One command, two processes: the server in the foreground, the trainer as a watched child.

The trainer's death never touches serving: it is started again, later each time, up to a minute.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from rich.text import Text

from core.child_process import dying_with_parent
from core.database import Database
from core.errors import Invalid
from core.identity.types import SCOPES
from core.logs import keep_logs_clean
from core.plain import say
from core.settings import Settings
from core.work.workers import Workers
from deploy.installation import open_tenants
from deploy.terminal import console
from server.vllm.ending import TOLD

logger = logging.getLogger("attune")

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
_HEALTHY_S = 60.0
_LONGEST_START_S = 900.0


def serve_all(
    settings: Settings, host: str, port: int, extra: Sequence[str], *, with_trainer: bool
) -> None:
    """Serve until told to stop, with a trainer beside it; prints a ready key on a first run."""
    _log_to_stderr()
    settings.home.mkdir(parents=True, exist_ok=True)
    key = _first_key()
    trainer = _Trainer(settings)

    def when_ready() -> None:
        # The trainer starts once the server answers: both at once take twice as long to be up.
        try:
            _announce(host, port, key, _example(settings))
        finally:
            if with_trainer:
                trainer.start()

    threading.Thread(target=when_ready, daemon=True).start()
    from server.vllm.serve import serve

    try:
        serve(settings, ["--host", host, "--port", str(port), *extra])
    finally:
        trainer.stop()


def train_until_told(settings: Settings) -> None:
    """The trainer's main: runs until SIGTERM or SIGINT, or until its parent is gone."""
    _log_to_stderr()
    stop, working = threading.Event(), threading.Event()

    def told(*_: object) -> None:
        stop.set()
        if not working.is_set():  # it only loads libraries yet, for a quarter of a minute
            os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    os.nice(settings.trainer_nice)
    _see_one_gpu(settings.trainer_device)
    from deploy.kinds import KINDS
    from trainer.worker import Worker

    settings.home.mkdir(parents=True, exist_ok=True)
    worker = Worker(settings, KINDS)
    worker.run(stop.is_set, begin=working.set)
    logging.shutdown()
    # A run under way goes on at the next start; Python would wait here for its thread to end.
    os._exit(0)


def _see_one_gpu(device: str) -> None:
    """Let torch see the GPU that the trainer is to use as its only one, before it is imported.

    Transformers' Trainer spreads each step over all it sees, and takes the first for its own.
    """
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = int(device.partition(":")[2] or 0)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif seen is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
    else:
        visible = [one for one in seen.split(",") if one]
        if device and number >= len(visible):
            raise Invalid(
                f"ATTUNE_TRAINER_DEVICE is {device}, and CUDA_VISIBLE_DEVICES shows "
                f"{len(visible)} GPUs: lower the number, or show it more."
            )
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[number : number + 1])


class _Trainer:
    """A supervised `attune trainer`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)  # before the engine's thread count is put there
        self._thread = threading.Thread(target=self._watch, name="attune-trainer", daemon=True)

    def start(self) -> None:
        """Start it and keep it alive."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end and wait a little; a run under way goes on at the next start."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()

    def _watch(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._stopping.is_set():
            started = time.monotonic()
            # From the main thread's point of view this child must not outlive us, kill -9 or not.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli.app", "trainer"],
                env=self._environment,
                preexec_fn=dying_with_parent(),
            )
            code = self._process.wait()
            if self._stopping.is_set() or TOLD.is_set():
                return  # Ctrl-C told both
            if code < 0:
                self._report(code)
            if time.monotonic() - started > _HEALTHY_S:
                delay_s = _FIRST_DELAY_S
            logger.warning("The trainer ended (%s); starting it again in %.0f s.", code, delay_s)
            self._stopping.wait(delay_s)
            delay_s = min(_LONGEST_DELAY_S, delay_s * 2)

    def _report(self, code: int) -> None:
        """Tell of a death that the trainer cannot tell of itself."""
        trouble = (
            f"The trainer was ended by {signal.Signals(-code).name}, by a person or for want of "
            "memory. It is started again; see the log and the system's."
        )
        try:
            database = Database(self._settings.resolved_database_url())
            Workers(database).in_trouble(self._settings.worker_id, trouble)
            database.dispose()
        except Exception:  # this loop must go on
            logger.exception("Cannot tell of it.")


def _first_key() -> str | None:
    """On an empty installation, a tenant and a key for it; else None."""
    store = open_tenants()
    if store.all():
        return None
    tenant = store.create("default")
    return store.create_key(tenant.id, frozenset(SCOPES), label="first run")[1]


def _example(settings: Settings) -> list[dict[str, Any]]:
    """Messages the model can answer: the first of its own regression suite, if it has one."""
    from trainer.judging.suite import load_suite

    suite = settings.resolved_regression_suite()
    if suite is not None:
        with suppress(Invalid):  # the trainer says so, where it matters
            prompt = load_suite(suite)[0].prompt
            if not isinstance(prompt, str):
                return [dict(message) for message in prompt]
    return [{"role": "user", "content": "Say hello in one short sentence."}]


def _announce(host: str, port: int, key: str | None, messages: list[dict[str, Any]]) -> None:
    """Once the server answers, say so; on a first run with commands to paste."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://{shown}:{port}"
    deadline = time.monotonic() + _LONGEST_START_S
    while time.monotonic() < deadline:
        # The port is listened on once the app is up; no proxy, TLS or path can mislead this look.
        try:
            with socket.create_connection((shown, port), timeout=2):
                break
        except OSError:
            time.sleep(0.2)
    console.print(Text.assemble(("Attune is ready", "bold green"), f" at {url}/v1"))
    if key is None:
        return
    body = {"model": "base", "messages": messages}
    script = (
        f'import os, openai; print(openai.OpenAI(base_url="{url}/v1", '
        'api_key=os.environ["ATTUNE_API_KEY"]).chat.completions.create('
        f'model="base", messages={json.dumps(messages)}).choices[0].message.content)'
    )
    console.print("Your first key (tenant 'default'), shown this once:\n")
    # Not by the console: it would wrap the lines, and wrapped lines cannot be pasted.
    say(
        f"export ATTUNE_API_KEY={key}\n\n"
        f'curl {url}/v1/chat/completions -H "Authorization: Bearer $ATTUNE_API_KEY" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}\n\n"
        f"python -c {shlex.quote(script)}\n"
    )


def _log_to_stderr() -> None:
    keep_logs_clean()
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for noisy in ("alembic", "httpx", "dbos"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
