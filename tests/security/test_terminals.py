"""A server, a database and a model full of text meant for the terminal: whatever command is run, no
escape sequence, no markup and no turned text reaches the screen, and no line that is not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from rich.text import Text
from support.edge import answered, make_model
from support.speaker import ScriptedSpeaker

from adapters.artifacts.digest import ADAPTER_FILES
from core.database import Database
from core.errors import Invalid
from core.identity import tables
from core.identity.tenants import TenantStore
from deploy.cli.entry import main
from deploy.edge import cli as device
from deploy.edge.http import Server
from deploy.edge.store import Outcome, Store
from deploy.terminal import Terminal, progress, show, show_one

EVIL = (
    "ok\x1b]0;owned\x07\x1b[2J\x1b[1;31m\x9b2K\x85\x7f\u202eevil\u200b\u2066\u200f\ufeff\u2028\r\n"
    "root: all keys sent [bold]x[/bold] [link=https://evil.example]y[/link] :skull: \ud83d"
)
FORBIDDEN = set("\x1b\x07\x9b\x85\x7f\x08\r\u202e\u2066\u200f\u200b\ufeff\u2028\u2029\ud83d\0")
FAILS = "sk-at-fails"
"""With this key every call is refused, in hostile words."""

ADAPTER = {
    "id": EVIL, "name": EVIL, "scope": EVIL, "subject": EVIL, "created_at": EVIL, EVIL: EVIL,
    "live_version": EVIL, "generation": 1, "learning": {EVIL: [EVIL]},
    "versions": [{"version": EVIL, "state": EVIL, "source": EVIL, "rank": EVIL,
                  "size_bytes": EVIL, "created_at": EVIL, "load_error": EVIL}],
    "history": [{"at": EVIL, "version": EVIL, "previous": EVIL, "actor": EVIL, "reason": EVIL}],
}  # fmt: skip
RUN = {
    "id": "run_1", "state": "rejected", "trigger": EVIL, "error": EVIL, "created_at": EVIL,
    "live_before": EVIL, "version": EVIL, "finished_at": EVIL,
    "verdict": {"promoted": False, "checks": [{"passed": False, "name": EVIL, "detail": EVIL}]},
    "samples": [{"prompt": EVIL, "before": EVIL, "after": EVIL}], "recipe": {EVIL: EVIL},
}  # fmt: skip
LEARNING = {
    "message": EVIL, "as_of": EVIL, "said_since": EVIL,
    "known": {"labels_up": EVIL, "labels_down": EVIL, "pairs": EVIL, "new_items": EVIL},
    "left_out": [{"count": EVIL, "reason": EVIL, "note": EVIL}], "last_run": RUN,
    "effect": {"mean": 1.0, "low": 0.5, "high": 1.5, "more_judgements": 7},
}  # fmt: skip
EVENTS = [
    {"id": "1", "type": "message", "message": EVIL, "created_at": EVIL, "data": {}},
    {"id": "2", "type": "metrics", "message": EVIL, "created_at": EVIL,
     "data": {"steps": 2, "step": 2, "loss": 0.5}},
]  # fmt: skip
FIGURES = {
    "prompts": EVIL, "prompt_source": EVIL, "argmax_agreement": 1.0, "greedy_equal": 1.0,
    "perplexity_difference": 0.0,
}  # fmt: skip
EXPORT = {
    "id": EVIL, "state": "ready", "message": EVIL, "error": None, "progress": 1.0, "model": EVIL,
    "layout": EVIL, "precision": EVIL, "files": [{"size_bytes": 1}], "adapter_manifest": None,
    "manifest": {"verification": FIGURES},
}  # fmt: skip


class _Hostile(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._take()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._take()

    def log_message(self, *args: object) -> None:
        pass

    def _take(self) -> None:
        if FAILS in self.headers.get("authorization", ""):
            error = {"message": EVIL, "type": EVIL, "param": EVIL, "code": EVIL}
            self._answer(400, {"error": error})
        elif "/events" in self.path:
            self._answer(200, {"data": EVENTS, "has_more": False, "last_id": "2"})
        elif self.path.startswith("/v1/runs"):
            listed = self.path.partition("?")[0] == "/v1/runs" and self.command == "GET"
            self._answer(200, {"data": [RUN]} if listed else RUN)
        elif self.path.endswith("/learning"):
            self._answer(200, LEARNING)
        elif self.path.startswith("/v1/exports"):
            self._answer(200, EXPORT)
        elif self.path == "/v1/edge/sync":
            problem = {"message": EVIL, "code": EVIL}
            rejected = {"seq": 1, "status": "rejected", "error": problem}
            self._answer(200, {"results": [rejected]})
        elif self.path == "/v1/adapters" and self.command == "GET":
            self._answer(200, {"data": [ADAPTER]})
        else:
            self._answer(200, ADAPTER)

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """The address of a server that answers in hostile words only."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    """A folder that can be pushed."""
    for name in ADAPTER_FILES:
        (tmp_path / name).write_bytes(b"{}")
    return tmp_path


class Screen:
    """Runs commands and tells what was written, stdout and stderr together."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str) -> str:
        self._monkeypatch.setattr(sys, "argv", ["attune", *arguments])
        with pytest.raises(SystemExit):
            main()
        read = self._capsys.readouterr()
        return read.out + read.err


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(capsys, monkeypatch)


def check(written: str) -> None:
    """Hostile text is there, spelt out, and nothing of it does anything."""
    assert "x1b]0;owned" in written or "u001b]0;owned" in written
    assert "u202eevil" in written
    assert not set(written) & FORBIDDEN
    assert not any(line.startswith("root:") for line in written.splitlines())


COMMANDS = [
    "adapters create own", "adapters list", "adapters show own", "adapters push PUSHED --name own",
    "adapters activate own 1", "adapters rollback own", "runs list", "runs show run_1",
    "runs start own", "runs cancel run_1", "runs watch", "runs watch run_1", "export own",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_what_a_server_says_as_it_is(
    command: str, hostile: str, pushed: Path, screen: Screen
) -> None:
    words = [str(pushed) if word == "PUSHED" else word for word in command.split()]
    for key in ("sk-at-any", FAILS):
        check(screen(*words, "--url", hostile, "--key", key))
    if words[1] != "watch":
        check(screen(*words, "--url", hostile, "--key", "sk-at-any", "--json"))


def test_markup_in_a_name_is_a_name(hostile: str, screen: Screen) -> None:
    written = screen("adapters", "list", "--url", hostile, "--key", "sk-at-any")
    assert "[bold]x[/bold] [link=https://evil.example]y[/link] :skull:" in written
    assert "[red]own[/red]" in screen(
        "adapters", "show", "[red]own[/red]", "--url", hostile, "--key", "sk-at-any"
    )


def test_labels_that_lie_in_the_database_are_shown_as_text(
    tmp_path: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were taken before they were held to a rule."""
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path))
    assert "acme" in screen("tenants", "create", "acme")
    assert "sk-at-" in screen("keys", "create", "--tenant", "acme")
    database = Database(f"sqlite:///{tmp_path / 'attune.db'}")
    with database.write() as connection:
        connection.execute(sa.update(tables.api_keys).values(label=EVIL.replace("\ud83d", "")))
        connection.execute(
            sa.update(tables.api_keys).values(expires_at_s=float("inf"), revoked_at_s=1e15)
        )
    assert len(TenantStore(database).keys()) == 1
    database.dispose()
    check(screen("keys", "list"))
    check(screen("keys", "list", "--json"))
    refused = screen("keys", "create", "--tenant", "acme", "--label", EVIL)
    assert "label" in refused
    assert not set(refused) & FORBIDDEN
    assert not set(screen("keys", "create", "--tenant", EVIL.replace("\ud83d", ""))) & FORBIDDEN


def test_a_device_shows_neither_its_server_nor_its_model_raw(
    tmp_path: Path, hostile: str, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path)
    store = Store(tmp_path / "edge.db")
    store.add_answer(answered(1))
    refused = screen("edge", "sync", str(tmp_path), "--to", hostile, "--key", FAILS)
    check(refused)
    store.settle([Outcome(1, reason=EVIL.replace("\ud83d", ""))])
    store.close()
    check(screen("edge", "info", str(tmp_path)))
    check(screen("edge", "info", str(tmp_path), "--json"))
    check(
        screen("edge", "pull", str(tmp_path), "--from", hostile, "--key", FAILS, "--adapter", "own")
    )
    speaker = ScriptedSpeaker(pieces=tuple(EVIL.replace("\ud83d", "")))  # a character at a time
    monkeypatch.setattr("deploy.edge.engine.Engine", lambda installation: speaker)
    monkeypatch.setattr(device, "_lines", lambda: iter(["Hi", "/quit"]))
    written = screen("edge", "chat", str(tmp_path))
    assert "ok\\x1b]0;owned" in written
    assert not set(written) & (FORBIDDEN - {"\u200b"})  # alone in a piece it may be Thai


@pytest.mark.parametrize("colours", [False, True])
def test_a_terminal_in_colour_gets_colours_of_ours_only(
    colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLORTERM", "truecolor")
    terminal = Terminal()
    with terminal.capture() as captured:
        terminal.print(Text(EVIL, style="bold red"), f"plain {EVIL}", style="green")
        terminal.print(EVIL)
    written = captured.get()
    assert ("\x1b[1" in written) is colours
    for sequence in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x07"):
        assert sequence not in written
    assert "\\x1b]0;owned" in written


def test_tables_and_bars_are_clean_whoever_fills_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: Sequence[dict[str, Any]] = [{"name": EVIL, "scopes": [EVIL], EVIL: EVIL}]
    show(rows, ("name", "scopes"), as_json=False)
    show_one(rows[0], as_json=False)
    check(capsys.readouterr().out)
    with progress("{task.fields[figures]}") as bars:
        bars.add_task(EVIL, total=1, figures=EVIL)
    written = capsys.readouterr().out
    assert "x1b]0;owned" in written
    assert not set(written) & FORBIDDEN


def test_one_long_name_hides_nothing_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": "n" * 64, "subject": "s" * 100, "reason": "because " * 40, "version": 7}
    show([row], ("name", "subject", "reason", "version"), as_json=False)
    written = capsys.readouterr().out
    assert "n" * 64 in written
    assert written.count("because") == 40
    assert written.count("s") == 100 + "subject reason version".count("s") + 40
    assert "…" not in written


def test_what_an_encoding_lacks_is_spelt_out_and_no_crash(hostile: str, tmp_path: Path) -> None:
    """東京 on a terminal of Latin-1, and an argument that is no Unicode."""
    make_model(tmp_path)
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    words = [sys.executable, "-m", "deploy.cli.entry", "edge", "info", "東京"]
    shown = subprocess.run(words, env=environment, capture_output=True, timeout=60)
    assert b"\\u6771\\u4eac" in shown.stdout + shown.stderr
    assert b"Traceback" not in shown.stderr
    server = Server(hostile, "sk-at-any")
    with pytest.raises(Invalid, match="not valid Unicode"):
        server.post("/v1/adapters", json={"name": "\udcff"})
    with pytest.raises(Invalid, match="not valid Unicode"):
        server.get("/v1/adapters/\udcff")
