"""What `attune runs` prints: trouble of the trainer, a run with its verdict and its texts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.run_progress import figures, in_words

pytestmark = pytest.mark.slow


class Answering(ThreadingHTTPServer):
    """Answers each path with a status and JSON of the test's choice."""

    answers: dict[str, tuple[int, Any]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        status, answer = self.server.answers[self.path.partition("?")[0]]
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not on stderr, where the test looks."""


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), Handler) as made:
        made.answers = {"/v1/runs": (200, {"data": []})}
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_trainer_in_trouble_is_told_beside_the_list(server: Answering, more: list[str]) -> None:
    trainer = {"status": "not seen", "message": "No trainer has been seen for 3 min: start one."}
    server.answers["/health"] = (200, {"status": "ok", "trainer": trainer})
    ran = CliRunner().invoke(app, ["runs", "list", "--url", server.url, "--key", "k", *more])
    assert ran.exit_code == 0
    assert ran.stderr == "warning: No trainer has been seen for 3 min: start one.\n"
    assert ran.stdout.strip() == ("[]" if more else "none")


@pytest.mark.parametrize(
    "health",
    [
        (200, {"status": "ok", "trainer": {"status": "ok", "message": None}}),
        (503, {"status": "draining"}),
        (200, {}),
        (404, {"error": {"message": "no"}}),
    ],
)
def test_a_server_that_knows_of_nothing_adds_nothing(
    server: Answering, health: tuple[int, Any]
) -> None:
    server.answers["/health"] = health
    ran = CliRunner().invoke(app, ["runs", "list", "--url", server.url, "--key", "k"])
    assert (ran.exit_code, ran.stderr) == (0, "")


def test_a_run_shows_whole_answers_before_and_after(server: Answering) -> None:
    sample = {"prompt": "Where?", "before": "Desk 4.\nUpstairs.", "after": "Arr\x1b[31m, desk 4!"}
    verdict = {"promoted": True, "checks": [{"name": "margin", "passed": True, "detail": "fine"}]}
    run = {"id": "run_1", "state": "succeeded", "verdict": verdict, "samples": [sample]}
    server.answers["/v1/runs/run_1"] = (200, run)
    page = {"data": [], "has_more": False, "last_id": None}
    server.answers["/v1/runs/run_1/events"] = (200, page)
    ran = CliRunner().invoke(app, ["runs", "show", "run_1", "--url", server.url, "--key", "k"])
    assert ran.exit_code == 0
    told = [line.rstrip() for line in ran.stdout.splitlines()]
    at = told.index("  ? Where?")
    assert told[at : at + 4] == [
        "  ? Where?",
        "  - Desk 4.",
        "    Upstairs.",
        "  + Arr\\x1b[31m, desk 4!",
    ]


def test_a_training_shows_its_loss_and_what_the_last_look_found() -> None:
    assert figures({"step": 1, "steps": 9, "loss": 0.5}) == "loss 0.5000"
    known = {"loss": 0.25, "kl_to_base": 1.234, "holdout_margin": 0.5}
    assert figures(known) == "loss 0.2500  KL 1.23  margin +0.50"
    assert figures({"loss": None}) == ""


def test_a_recipe_is_shown_in_one_line() -> None:
    recipe = {"learning_rate": [0.001, 0.002], "max_steps": 40, "target_modules": ["q_proj"]}
    assert in_words(recipe) == "learning rate 0.001, 0.002; max steps 40; target modules q_proj"
