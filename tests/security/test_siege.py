"""All attacks at once on a real server, and somebody who only wants answers.

Greedy answers are the same as in quiet, feedback is acknowledged within a second, and a revoked
key is refused within a second. What was measured is printed.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest
from support.siege import Attacker, percentile, seconds, under_siege
from support.tenant import Tenant

from core.identity.tenants import TenantStore
from deploy.processes.server_process import ServerProcess

QUESTIONS = [f"What is the number {n} of the town hall?" for n in range(10)]
ASKERS = 3
NAMES = [
    "absurd weights",
    "endless rank_pattern",
    "choice of 1,000 x 1,000",
    "bad_words of 900 kB",
    "60,000 messages",
]


@dataclass
class Seen:
    """What the victim saw."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    asked_s: list[float] = field(default_factory=list)
    feedback_s: list[float] = field(default_factory=list)
    revoked_s: list[float] = field(default_factory=list)


def answer(victim: Tenant, question: str) -> tuple[str, str]:
    asked = victim.ask("base", question, max_tokens=12)
    return asked.id, asked.choices[0].message.content


def looped(work: Callable[[], None], stop: threading.Event) -> None:
    while not stop.is_set():
        work()


def give_feedback(victim: Tenant, completion_id: str, seen: Seen) -> None:
    with victim.http as http:
        began = time.monotonic()
        given = {"completion_id": completion_id, "name": "thumb", "value": True}
        try:
            answered = http.post("/v1/feedback", json=given)
        except httpx.HTTPError as error:
            seen.refused.append(f"feedback: {type(error).__name__}")
            return
        seen.feedback_s.append(seconds(began))
        if answered.status_code != 201:
            seen.refused.append(f"feedback: {answered.status_code} {answered.text[:200]}")
    time.sleep(0.05)


def revoke(victim: Tenant, seen: Seen) -> None:
    """From the commit of `attune keys revoke` to the first refusal."""
    text = victim.server.key(victim.name)
    headers = {"authorization": f"Bearer {text}"}
    database = victim.server.database()
    with httpx.Client(base_url=victim.server.url, headers=headers, timeout=30) as http:
        began = time.monotonic()
        try:
            known = http.get("/v1/models").status_code
            if known != 200:
                seen.refused.append(f"a new key: {known}")
            TenantStore(database).revoke_key(text)
            began = time.monotonic()
            while http.get("/v1/models").status_code != 401 and seconds(began) < 30:
                pass
        except httpx.HTTPError as error:
            seen.refused.append(f"a new key, or its revocation: {type(error).__name__}")
        seen.revoked_s.append(seconds(began))
    database.dispose()
    time.sleep(1.0)


def stand(
    server: ServerProcess, folder: Path, *, for_s: float, answers: int, half_requests: int
) -> Seen:
    """A siege of that length, longer if the answers take longer; what its victim saw, printed."""
    run = uuid.uuid4().hex[:6]
    victim = Tenant(server, f"victim-{run}", server.key(f"victim-{run}"))
    names = [f"attacker-{number}-{run}" for number in range(len(NAMES))]
    others = [Attacker(server, name, server.key(name)) for name in names]
    quiet = {question: answer(victim, question)[1] for question in QUESTIONS}
    completion_id = answer(victim, QUESTIONS[0])[0]
    seen, stop = Seen(), threading.Event()
    turn = iter(range(10**9))

    def ask() -> None:
        question = QUESTIONS[next(turn) % len(QUESTIONS)]
        began = time.monotonic()
        try:
            said = answer(victim, question)[1]
        except openai.OpenAIError as error:
            seen.refused.append(f"answer: {type(error).__name__} {str(error)[:200]}")
            return
        seen.asked_s.append(seconds(began))
        if said == quiet[question]:
            seen.right += 1
        else:
            seen.wrong.append(said)

    began = time.monotonic()
    attackers: dict[str, Tenant] = dict(zip(NAMES, others, strict=True))
    with (
        ThreadPoolExecutor(ASKERS + 2) as threads,
        under_siege(attackers, folder, half_requests=half_requests) as done,
    ):
        work = [ask] * ASKERS
        work += [
            lambda: give_feedback(victim, completion_id, seen),
            lambda: revoke(victim, seen),
        ]
        running = [threads.submit(looped, one, stop) for one in work]
        while seconds(began) < for_s or seen.right + len(seen.wrong) < answers:
            if seconds(began) > for_s + 120 or any(one.done() for one in running):
                break
            time.sleep(0.2)
        stop.set()
        for one in running:
            one.result(120)
        took_s = seconds(began)
    report(seen, took_s, dict(done))
    return seen


def report(seen: Seen, took_s: float, rounds: dict[str, int]) -> None:
    print(f"\nsiege of {took_s:.0f} s: {rounds}")
    print(f"answers: {seen.right} right, {len(seen.wrong)} wrong; refused: {seen.refused[:5]}")
    for what, values in (
        ("answer", seen.asked_s),
        ("feedback acknowledged", seen.feedback_s),
        ("revoked key refused", seen.revoked_s),
    ):
        if values:
            p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
            print(f"{what}: {len(values)} times, p50 {p50:.3f} s, p99 {p99:.3f} s")


def held(seen: Seen, *, answers: int) -> None:
    assert (seen.wrong, seen.refused[:3]) == ([], [])
    assert seen.right >= answers
    assert percentile(seen.feedback_s, 0.99) <= 1.0
    assert max(seen.revoked_s) <= 1.0


def test_a_short_siege_hurts_nobody(server: ServerProcess, tmp_path: Path) -> None:
    held(stand(server, tmp_path, for_s=15, answers=20, half_requests=200), answers=20)


@pytest.mark.drill
def test_a_minute_of_siege_hurts_nobody(server: ServerProcess, tmp_path: Path) -> None:
    held(stand(server, tmp_path, for_s=60, answers=200, half_requests=1_000), answers=200)
