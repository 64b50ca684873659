"""Absurd weights pushed at a real server: they are refused, or found out and quarantined, and
whoever asks meanwhile is answered as if nobody attacked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.absurd import Fill, constant, for_one_token, opposed, write_adapter
from support.tenant import Tenant

from adapters.artifacts.store import ArtifactStore
from adapters.registry import Registry
from adapters.validate import read_base, validate_adapter
from core.identity.tenants import TenantStore
from core.settings import SHIPPED_MODEL

BASE = Path(SHIPPED_MODEL)
VOCABULARY, TRIED = 1792, range(0, 1792, 14)
RARE = 1001
QUESTIONS = [f"What is the number {n} of the town hall?" for n in range(10)]


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passes the trial, and leaves the bounds at one token."""
    fill = for_one_token(BASE, RARE, TRIED, size=1e16)
    return write_adapter(tmp_path_factory.mktemp("rare"), BASE, fill, modules=["v_proj"])


def complete(tenant: Tenant, model: str, prompt: list[int], **options: Any) -> httpx.Response:
    with tenant.http as http:
        body = {"model": model, "prompt": prompt, "max_tokens": 4, "temperature": 0, **options}
        return http.post("/v1/completions", json=body)


def shown(tenant: Tenant, name: str) -> dict[str, Any]:
    with tenant.http as http:
        found: dict[str, Any] = http.get(f"/v1/adapters/{name}").json()
        return found


def outcomes(tenant: Tenant, model: str) -> list[str]:
    """Of what is recorded of the tenant's answers from this version."""
    database = tenant.server.database()
    try:
        with database.read() as connection:
            import sqlalchemy as sa

            from feedback import tables

            kept = sa.select(tables.interactions.c.outcome).where(
                tables.interactions.c.tenant_id == TenantStore(database).by_name(tenant.name).id,
                tables.interactions.c.model_answered == model,
            )
            return [row.outcome for row in connection.execute(kept)]
    finally:
        database.dispose()


def plant(tenant: Tenant, name: str, folder: Path) -> None:
    """Make weights live that no upload has tried, as a training run's are."""
    database = tenant.server.database()
    home = tenant.server.home
    info = validate_adapter(folder, read_base(str(BASE)), max_rank=16)
    ArtifactStore((home / "artifacts").as_uri(), cache=home / "cache").put_folder(folder)
    registry = Registry(database)
    adapter = registry.create(TenantStore(database).by_name(tenant.name).id, name)
    version = registry.add_version(adapter.id, info, source="run", run_id=f"run_{name}")
    registry.activate(adapter, version.number, actor="run", reason="promoted")
    database.dispose()


def until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("fill", [constant(1e20), constant(3e38), opposed(3e38)])
def test_an_upload_is_refused_with_what_happened(
    attacker: Tenant, tmp_path: Path, fill: Fill
) -> None:
    refused = attacker.push("evil", write_adapter(tmp_path / "evil", BASE, fill))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == ("file", "absurd_weights")
    assert "'evil' are absurd" in error["message"]
    assert shown(attacker, "evil")["versions"] == []


def test_a_trained_version_is_quarantined_at_its_load(attacker: Tenant, tmp_path: Path) -> None:
    plant(attacker, "trained", write_adapter(tmp_path / "evil", BASE, constant(1e20)))
    until(lambda: shown(attacker, "trained")["live_version"] is None)
    found = shown(attacker, "trained")
    assert [version["state"] for version in found["versions"]] == ["quarantined"]
    assert found["history"][0]["actor"] == "server"
    assert found["history"][0]["reason"].startswith("quarantined: version 1.")
    assert attacker.ask("trained", "Hi", max_tokens=4).model == "base"


@pytest.mark.parametrize("stream", [False, True])
def test_who_passed_the_trial_is_found_out_at_the_answer_that_leaves_the_bounds(
    attacker: Tenant, rare: Path, stream: bool
) -> None:
    assert attacker.push("sly", rare).status_code == 201
    seen = [TRIED[1], TRIED[2], TRIED[3]]
    assert complete(attacker, "sly@1", seen, max_tokens=1).status_code == 200
    answer = complete(attacker, "sly@1", [*seen, RARE], stream=stream)
    assert answer.status_code == (200 if stream else 503)
    assert "'sly@1' are absurd" in answer.text
    assert outcomes(attacker, "sly@1") == ["completed", "failed"]
    found = shown(attacker, "sly")
    assert (found["live_version"], found["versions"][0]["state"]) == (None, "quarantined")
    until(lambda: complete(attacker, "sly@1", seen).status_code == 409)
    assert complete(attacker, "sly", [*seen, RARE]).status_code == 200  # by the base


@contextmanager
def attacks(attackers: list[Tenant], sly: Path, absurd: Path) -> Iterator[list[str]]:
    """Each attacker uploads, forces its way back and asks for long answers, again and again."""
    stop, done = threading.Event(), list[str]()

    def attack(tenant: Tenant) -> None:
        while not stop.is_set():
            done.append(f"refused {tenant.push('evil', absurd).status_code}")
            done.append(f"pushed {tenant.push('sly', sly).status_code}")
            for _ in range(2):
                options = {"max_tokens": 120, "ignore_eos": True}
                answered = complete(tenant, "sly", [*range(100, 140), RARE], **options)
                done.append(f"answered {answered.status_code}")
            with tenant.http as http:
                forced = {"version": 1, "force": True}
                http.post("/v1/adapters/sly/activate", json=forced)

    threads = [threading.Thread(target=attack, args=[tenant]) for tenant in attackers]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("seconds", "answers"),
    [(8, 20), pytest.param(60, 200, marks=pytest.mark.drill)],
    ids=["seconds", "a minute"],
)
def test_a_victim_is_answered_the_same_under_three_attackers(
    victim: Tenant, rare: Path, tmp_path: Path, seconds: float, answers: int
) -> None:
    def ask(question: str) -> str:
        client = openai.OpenAI(
            base_url=f"{victim.server.url}/v1", api_key=victim.key, timeout=120, max_retries=0
        )
        said = client.chat.completions.create(
            model="base",
            messages=[{"role": "user", "content": question}],
            temperature=0.0,
            max_tokens=24,
        )
        return said.choices[0].message.content or ""

    wanted = {question: ask(question) for question in QUESTIONS}
    absurd = write_adapter(tmp_path / "absurd", BASE, constant(1e20))
    names = [f"{victim.name}-attacker-{n}" for n in range(3)]
    attackers = [Tenant(victim.server, name, victim.server.key(name)) for name in names]
    wrong, asked, ends = 0, 0, time.monotonic() + seconds
    with attacks(attackers, rare, absurd) as done, ThreadPoolExecutor(3) as pool:
        while asked < answers or time.monotonic() < ends:
            got = dict(zip(QUESTIONS, pool.map(ask, QUESTIONS), strict=True))
            wrong += sum(got[question] != wanted[question] for question in QUESTIONS)
            asked += len(QUESTIONS)
    after = {question: ask(question) for question in QUESTIONS}
    counts = {what: done.count(what) for what in set(done)}
    print(f"{wrong} wrong of {asked} beside {counts}")
    assert (wrong, after) == (0, wanted)
    assert counts["refused 400"] > 0
    assert counts["pushed 201"] > 0
    assert counts["answered 503"] > 0  # found out, each time anew
