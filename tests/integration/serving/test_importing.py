"""Pairs from a file, on the real server: the command, the run, and what is told meanwhile."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from support.tenant import Tenant
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.demo.users import ask_many, score
from deploy.demo.world.questions import STYLES, answer, ask, held_out_questions

PAIRS, TASTE, PATIENCE_S = 200, "coach", 240


def attune(tenant: Tenant, *arguments: str) -> Any:
    where = ["--url", tenant.server.url, "--key", tenant.key]
    return CliRunner().invoke(app, [*arguments, *where])


def written(tmp_path: Path) -> Path:
    """Pairs of which the better answer wears the taste, every other one as chat messages."""
    rng = random.Random(3)
    others = [style for style in STYLES if style != TASTE]
    path = tmp_path / "pairs.jsonl"
    with path.open("w") as file:
        for n in range(PAIRS):
            question = ask(rng, "train")
            good, bad = answer(question, TASTE, rng), answer(question, rng.choice(others), rng)
            row: dict[str, Any] = {"prompt": question.text, "chosen": good, "rejected": bad}
            if n % 2:
                row["prompt"] = [{"role": "user", "content": question.text}]
                for name in ("chosen", "rejected"):
                    row[name] = [{"role": "assistant", "content": row[name]}]
            file.write(json.dumps(row) + "\n")
    return path


def learning(tenant: Tenant) -> dict[str, Any]:
    return dict(tenant.http.get("/v1/adapters/support/learning").json())


def test_imported_pairs_are_learnt_and_served(tenant: Tenant, tmp_path: Path) -> None:
    settings = {"new_items": PAIRS, "min_pairs": PAIRS // 2, "max_age_s": 1e9}
    body = {"name": "support", "learning": {**settings, "enabled": False}}
    assert tenant.http.post("/v1/adapters", json=body).status_code == 201
    path = written(tmp_path)
    ordered = ("import", "pairs", str(path), "--adapter", "support", "--json")
    dry = json.loads(attune(tenant, *ordered, "--dry-run").stdout)
    assert (dry["pairs"], dry["skipped"]) == (PAIRS, 0)
    assert "enough for a run" in dry["says"]
    first, again = (json.loads(attune(tenant, *ordered).stdout) for _ in range(2))
    assert (first["stored"], first["already_stored"]) == (PAIRS, 0)
    assert (again["stored"], again["already_stored"]) == (0, PAIRS)

    told = learning(tenant)
    deadline = time.monotonic() + 60
    while told["known"] is None or told["said_since"]:
        assert time.monotonic() < deadline, told
        told = learning(tenant)
    assert told["known"] == {"labels_up": 0, "labels_down": 0, "pairs": PAIRS, "new_items": PAIRS}
    assert told["left_out"] == []
    assert told["message"].startswith("Learning is off")

    on = {"learning": {"enabled": True}}
    assert tenant.http.patch("/v1/adapters/support", json=on).status_code == 200
    deadline = time.monotonic() + PATIENCE_S
    # The effect is the trainer's to tell, at its next look after the run.
    while not ((told := learning(tenant))["last_run"] and told["effect"] and told["run"] is None):
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
    run = told["last_run"]
    assert run["state"] == "succeeded", run
    events = tenant.http.get(f"/v1/runs/{run['id']}/events?limit=200").json()["data"]
    assert any("Training DPO" in event["message"] for event in events)
    snapshot = next(e["data"] for e in events if e["message"].startswith("Snapshot"))
    assert snapshot["reasons"] == {one["reason"]: one["count"] for one in told["left_out"]}
    assert told["effect"]["mean"] > 0
    assert told["effect"]["n"] == snapshot["held_out_pairs"]
    assert told["missing"]["new_items"] == PAIRS

    shown = attune(tenant, "adapters", "show", "support").stdout
    assert f"Known: 0 up, 0 down, {PAIRS} pairs; new since the last run: 0." in shown
    live = f"support@{run['version']}"
    after = score(ask_many(tenant.openai, held_out_questions(60, 5), live), TASTE)
    assert after.preferred >= 0.6


def test_a_bad_file_is_refused_whole_or_imported_without_its_bad_lines(
    tenant: Tenant, tmp_path: Path
) -> None:
    body = {"name": "support", "learning": {"enabled": False}}
    assert tenant.http.post("/v1/adapters", json=body).status_code == 201
    path = tmp_path / "labels.jsonl"
    good = '{"prompt": "Which?", "completion": "This.", "label": true}'
    path.write_text(f'{good}\n{{"prompt": "a", "completion": "b", "label": "good"}}\nno\n')
    ordered = ("import", "labels", str(path), "--adapter", "support")
    refused = attune(tenant, *ordered)
    assert refused.exit_code == 1
    assert "line 2: label: send true" in refused.exception.message
    assert "line 3: " in refused.exception.message
    assert tenant.http.get("/v1/feedback").json()["data"] == []
    taken = attune(tenant, *ordered, "--skip-bad", "--json")
    assert taken.exit_code == 0
    assert {name: json.loads(taken.stdout)[name] for name in ("stored", "skipped")} == {
        "stored": 1,
        "skipped": 2,
    }
    assert len(tenant.http.get("/v1/feedback").json()["data"]) == 1
    unknown = attune(tenant, "import", "labels", str(path), "--adapter", "unknown")
    assert "unknown" in unknown.exception.message
