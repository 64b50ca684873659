"""Adapters in the running engine: the right weights for every request, swaps nobody notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.tenant import Tenant

Reference = Callable[[str, Path | None, int], str]

QUESTIONS = (
    "Which pier does the ferry to Morva leave from in June?",
    "What time does the bakery open on Monday?",
    "How much is a ticket to the museum?",
    "Where do I return book 42?",
)
LENGTH = 24


def say(tenant: Tenant, model: str, question: str) -> str:
    answer = tenant.ask(model, question, max_tokens=LENGTH)
    return str(answer.choices[0].message.content)


def test_greedy_tokens_equal_transformers_and_peft_in_mixed_batches(
    tenant: Tenant, adapters: dict[str, Path], reference: Reference
) -> None:
    """Base and three adapters of different ranks and modules, all in flight together: each
    answer is what Transformers + PEFT in fp32 says alone. (vLLM 0.32's own CPU code gives base
    requests somebody's adapter here.)"""
    for name, folder in adapters.items():
        assert tenant.push(name, folder).status_code == 201
    folders: dict[str, Path | None] = {"base": None, **adapters}
    work = [(model, question) for question in QUESTIONS for model in folders]
    with ThreadPoolExecutor(len(work)) as pool:
        served = list(pool.map(lambda w: say(tenant, *w), work))
    expected = [reference(question, folders[model], LENGTH) for model, question in work]
    assert served == expected
    assert len(set(served)) > len(QUESTIONS)  # the adapters do change the answers


def test_the_answer_names_its_version_and_a_pin_is_kept(
    tenant: Tenant, adapters: dict[str, Path]
) -> None:
    tenant.push("support", adapters["alpha"])
    tenant.push("support", adapters["gamma"])
    live = tenant.ask("support", QUESTIONS[0])
    pinned = tenant.ask("support@1", QUESTIONS[0])
    assert (live.model, pinned.model) == ("support@2", "support@1")
    assert say(tenant, "support@1", QUESTIONS[0]) != say(tenant, "support@2", QUESTIONS[0])


def test_a_rollback_serves_the_version_before(tenant: Tenant, adapters: dict[str, Path]) -> None:
    tenant.push("support", adapters["alpha"])
    tenant.push("support", adapters["gamma"])
    assert tenant.http.post("/v1/adapters/support/rollback").status_code == 200
    assert tenant.ask("support", QUESTIONS[0]).model == "support@1"
    assert tenant.http.post("/v1/adapters/support/rollback").status_code == 200
    assert tenant.ask("support", QUESTIONS[0]).model == "support@2"


def test_more_adapters_than_places_all_answer(
    tenant: Tenant, adapters: dict[str, Path], reference: Reference
) -> None:
    """The server has four places; eight adapters take turns in them."""
    names = [f"a{number}" for number in range(8)]
    folders = [adapters[name] for name in ("alpha", "beta")] * 4
    for name, folder in zip(names, folders, strict=True):
        assert tenant.push(name, folder).status_code == 201
    expected = {folder: reference(QUESTIONS[1], folder, LENGTH) for folder in folders}
    with ThreadPoolExecutor(8) as pool:
        served = list(pool.map(lambda name: say(tenant, name, QUESTIONS[1]), names * 2))
    assert served == [expected[folder] for folder in folders * 2]


def test_swaps_under_traffic_fail_nobody_and_mix_nothing(
    tenant: Tenant, adapters: dict[str, Path]
) -> None:
    """Ten swaps while six clients stream: every answer is, token for token, one version's."""
    tenant.push("support", adapters["alpha"])
    tenant.push("support", adapters["gamma"])
    whole = {f"support@{n}": say(tenant, f"support@{n}", QUESTIONS[2]) for n in (1, 2)}
    stop = threading.Event()
    seen: list[tuple[str, str]] = []
    failures: list[BaseException] = []

    def stream() -> None:
        while not stop.is_set():
            try:
                chunks = list(tenant.ask("support", QUESTIONS[2], max_tokens=LENGTH, stream=True))
                (model,) = {chunk.model for chunk in chunks}
                text = "".join(c.choices[0].delta.content or "" for c in chunks)
                seen.append((model, text))
            except Exception as error:
                failures.append(error)

    clients = [threading.Thread(target=stream) for _ in range(6)]
    for client in clients:
        client.start()
    for turn in range(10):
        before = len(seen)
        version = 1 + turn % 2
        body = {"version": version, "reason": "drill"}
        assert tenant.http.post("/v1/adapters/support/activate", json=body).status_code == 200
        deadline = time.monotonic() + 60
        while len(seen) < before + 12 and time.monotonic() < deadline:
            stop.wait(0.01)
    stop.set()
    for client in clients:
        client.join()
    assert failures == []
    assert {model for model, _ in seen} == set(whole)
    assert all(text == whole[model] for model, text in seen)


def test_auto_picks_the_users_then_the_domains_then_the_tenants_adapter(
    tenant: Tenant, adapters: dict[str, Path]
) -> None:
    for name, extra in (
        ("everyone", {}),
        ("billing", {"scope": "domain", "subject": "billing"}),
        ("ann", {"scope": "user", "subject": "ann-7"}),
    ):
        body = {"name": name, "learning": {"exploration": 0}, **extra}
        assert tenant.http.post("/v1/adapters", json=body).status_code == 201
        assert tenant.push(name, adapters["alpha"]).status_code == 201
    asked = QUESTIONS[3]
    assert tenant.ask("auto", asked).model == "everyone@1"
    assert tenant.ask("auto", asked, metadata={"domain": "billing"}).model == "billing@1"
    both = tenant.ask("auto", asked, user="ann-7", metadata={"domain": "billing"})
    assert both.model == "ann@1"


def test_metrics_show_residency_and_swaps(tenant: Tenant, adapters: dict[str, Path]) -> None:
    tenant.push("support", adapters["alpha"])
    tenant.ask("support", QUESTIONS[0])
    page = tenant.http.get("/metrics").text
    assert "vllm:num_requests_running" in page
    for name in (
        "attune_answers_total",
        "attune_adapters_resident",
        "attune_swap_seconds_bucket",
        "attune_interactions_waiting",
        "attune_feedback_to_served_seconds_bucket",
    ):
        assert name in page
