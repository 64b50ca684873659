"""The circle, on the real engine and the real trainers: thumbs in, a better version out."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from support.tenant import Tenant

from deploy.demo.users import ask_many, ask_one, likes, score
from deploy.demo.world.questions import Question, answer, ask

HELD_OUT = 150
THUMBS = 64
RUN_TIMEOUT_S = 240


def finished_run(tenant: Tenant, adapter: str) -> dict[str, Any]:
    """The adapter's newest run, once it has ended."""
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while True:
        runs = tenant.http.get("/v1/runs", params={"adapter": adapter}).json()["data"]
        if runs and runs[0]["finished_at"] is not None:
            return dict(runs[0])
        assert time.monotonic() < deadline, f"no finished run: {runs}"
        time.sleep(0.2)


def held_out(seed: int) -> list[Question]:
    rng = random.Random(seed)
    return [ask(rng, "held_out") for _ in range(HELD_OUT)]


@pytest.mark.parametrize(
    ("seed", "taste"),
    [
        (1, "pirate"),
        pytest.param(2, "formal", marks=pytest.mark.drill),
        pytest.param(3, "robot", marks=pytest.mark.drill),
    ],
)
def test_thumbs_alone_teach_a_taste_and_keep_the_facts(
    tenant: Tenant, seed: int, taste: str
) -> None:
    """64 thumbs, at most 16 up, on answers really received; the base shows each of five styles
    about equally often. The promise is 50 points more of the preferred style and facts unharmed."""
    client = tenant.openai
    body = {"name": "support", "learning": {"new_items": THUMBS, "min_minority": 3}}
    assert tenant.http.post("/v1/adapters", json=body).status_code == 201
    rng = random.Random(seed)
    received = ask_many(client, [ask(rng, "train") for _ in range(2 * THUMBS)], "support")
    # Every answer is received; the user tires of thumbing down, as people do.
    liked = [answered for answered in received if likes(answered, taste)][: THUMBS // 4]
    others = [answered for answered in received if not likes(answered, taste)]
    for answered in liked + others[: THUMBS - len(liked)]:
        thumb = {"completion_id": answered.id, "value": answered in liked}
        assert tenant.http.post("/v1/feedback", json=thumb).status_code == 201
    run = finished_run(tenant, "support")
    assert run["state"] == "succeeded", run
    assert run["verdict"]["promoted"]
    assert len(run["samples"]) == 8
    assert all(sample["before"] and sample["after"] for sample in run["samples"])
    live = f"support@{run['version']}"
    deadline = time.monotonic() + 10
    while ask_one(client, held_out(seed)[0], "support").version not in (live,):
        assert time.monotonic() < deadline, f"{live} is not served"
    before = score(ask_many(client, held_out(seed), "base"), taste)
    after = score(ask_many(client, held_out(seed), live), taste)
    assert after.preferred - before.preferred >= 0.5
    # 150 answers: a difference of 2 points is within one standard error of none.
    assert before.facts - after.facts <= 0.05


def test_comparisons_teach_by_dpo(tenant: Tenant) -> None:
    """Corrections: the user rewrites each answer in the style they want."""
    client = tenant.openai
    body = {"name": "support", "learning": {"min_pairs": 48, "new_items": 48}}
    tenant.http.post("/v1/adapters", json=body)
    rng = random.Random(11)
    for answered in ask_many(client, [ask(rng, "train") for _ in range(56)], "support"):
        said = {
            "completion_id": answered.id,
            "correction": answer(answered.question, "coach", rng),
        }
        assert tenant.http.post("/v1/feedback", json=said).status_code == 201
    run = finished_run(tenant, "support")
    assert run["state"] == "succeeded", run
    events = tenant.http.get(f"/v1/runs/{run['id']}/events?limit=200").json()["data"]
    assert any("DPO" in event["message"] for event in events)
    assert any(event["type"] == "metrics" and "loss" in event["data"] for event in events)
    after = score(ask_many(client, held_out(11), f"support@{run['version']}"), "coach")
    assert after.preferred >= 0.6


def test_too_little_feedback_starts_no_run(tenant: Tenant) -> None:
    """The trainer has seen it: of what came later, another adapter's run does start."""
    easy = {"min_labels": 2, "min_minority": 1, "new_items": 2}
    tenant.http.post("/v1/adapters", json={"name": "quiet"})
    tenant.http.post("/v1/adapters", json={"name": "taught", "learning": easy})
    thumbs = [("quiet", True), ("quiet", False), ("taught", True), ("taught", False)]
    for (adapter, thumb), question in zip(thumbs, held_out(4), strict=False):
        answered = ask_one(tenant.openai, question, adapter)
        item = {"completion_id": answered.id, "value": thumb}
        assert tenant.http.post("/v1/feedback", json=item).status_code == 201
    deadline = time.monotonic() + 60
    of_taught = {"adapter": "taught"}
    while not (started := tenant.http.get("/v1/runs", params=of_taught).json()["data"]):
        assert time.monotonic() < deadline, "the trainer does not look"
        time.sleep(0.05)
    tenant.http.post(f"/v1/runs/{started[0]['id']}/cancel")  # that it learns is others' test
    assert finished_run(tenant, "taught")["id"] == started[0]["id"]
    assert tenant.http.get("/v1/runs", params={"adapter": "quiet"}).json()["data"] == []


def test_a_run_by_hand_without_feedback_fails_with_a_reason(tenant: Tenant) -> None:
    tenant.http.post("/v1/adapters", json={"name": "empty"})
    assert tenant.http.post("/v1/runs", json={"adapter": "empty"}).status_code == 202
    run = finished_run(tenant, "empty")
    assert run["state"] == "failed"
    assert run["error"]
