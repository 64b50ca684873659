"""What was answered is stored once, before the client has the last byte of it."""

from __future__ import annotations

import pytest
from support.stored import stored_answer
from support.tenant import Tenant

from core.identity.tenants import TenantStore
from feedback.types import Interaction

QUESTION = "Which pier does the ferry to Morva leave from in June?"


@pytest.fixture
def stored(tenant: Tenant) -> object:
    """Looks an answer up in the server's database."""
    database = tenant.server.database()
    tenant_id = TenantStore(database).by_name(tenant.name).id

    def look_up(completion_id: str) -> Interaction:
        kept = stored_answer(database, completion_id)
        assert kept.tenant_id == tenant_id
        return kept

    yield look_up
    database.dispose()


def test_an_answer_is_stored_with_everything_about_it(tenant: Tenant, stored: object) -> None:
    answer = tenant.ask(
        "base",
        QUESTION,
        user="ann-7",
        metadata={"domain": "ferries", "conversation_id": "c1"},
        seed=5,
    )
    kept: Interaction = stored(answer.id)  # type: ignore[operator]
    assert kept.answers == (answer.choices[0].message.content,)
    assert kept.prompt == ({"role": "user", "content": QUESTION},)
    assert (kept.end_user, kept.domain, kept.conversation_id) == ("ann-7", "ferries", "c1")
    assert kept.sampling == {"temperature": 0.0, "max_tokens": 32, "seed": 5}
    assert kept.outcome == "completed"
    assert kept.finish_reason == answer.choices[0].finish_reason
    assert kept.completion_tokens == answer.usage.completion_tokens
    assert kept.duration_ms is not None
    assert kept.duration_ms > 0


def test_a_stream_is_stored_before_its_end_is_seen(tenant: Tenant, stored: object) -> None:
    stream = tenant.ask("base", QUESTION, stream=True)
    chunks = list(stream)
    kept: Interaction = stored(chunks[0].id)  # type: ignore[operator]
    assert kept.answers == ("".join(c.choices[0].delta.content or "" for c in chunks),)
    assert kept.completion_tokens is not None
    assert kept.first_token_ms is not None


def test_every_endpoints_answer_is_stored(tenant: Tenant, stored: object) -> None:
    client = tenant.openai
    completion = client.completions.create(model="base", prompt="The ferry", max_tokens=4)
    response = client.responses.create(model="base", input=QUESTION, max_output_tokens=32)
    message = tenant.http.post(
        "/v1/messages",
        json={
            "model": "base",
            "max_tokens": 32,
            "messages": [{"role": "user", "content": QUESTION}],
        },
    ).json()
    for completion_id, text in (
        (completion.id, completion.choices[0].text),
        (response.id, response.output_text),
        (message["id"], message["content"][0]["text"]),
    ):
        kept: Interaction = stored(completion_id)  # type: ignore[operator]
        assert kept.answers == (text,)


def test_a_client_that_leaves_midway_leaves_a_marked_answer(tenant: Tenant, stored: object) -> None:
    stream = tenant.ask(
        "base", QUESTION, stream=True, max_tokens=400, extra_body={"min_tokens": 400}
    )
    first = next(iter(stream))
    stream.close()
    import time

    from core.errors import NotFound

    deadline = time.monotonic() + 20
    while True:
        try:
            kept: Interaction = stored(first.id)  # type: ignore[operator]
            break
        except NotFound:
            assert time.monotonic() < deadline, "the cancelled answer was never stored"
            time.sleep(0.05)
    assert kept.outcome == "cancelled"
    assert kept.finish_reason is None


def test_feedback_joins_the_answer_and_is_idempotent(tenant: Tenant) -> None:
    answer = tenant.ask("base", QUESTION)
    body = {"id": "my-1", "completion_id": answer.id, "value": True}
    first = tenant.http.post("/v1/feedback", json=body)
    again = tenant.http.post("/v1/feedback", json=body)
    changed = tenant.http.post("/v1/feedback", json={**body, "value": False})
    assert [r.status_code for r in (first, again, changed)] == [201, 200, 200]
    listed = tenant.http.get("/v1/feedback", params={"completion_id": answer.id}).json()
    assert [item["value"] for item in listed["data"]] == [False]
    assert tenant.http.delete("/v1/feedback/my-1").json()["deleted"] is True
    assert tenant.http.get("/v1/feedback/my-1").status_code == 404


def test_lists_page_by_cursor(tenant: Tenant) -> None:
    answer = tenant.ask("base", QUESTION)
    for number in range(5):
        body = {"id": f"f{number}", "completion_id": answer.id, "comment": f"note {number}"}
        tenant.http.post("/v1/feedback", json=body)
    page = tenant.http.get("/v1/feedback", params={"limit": 3}).json()
    rest = tenant.http.get("/v1/feedback", params={"limit": 3, "after": page["last_id"]}).json()
    assert [item["id"] for item in page["data"] + rest["data"]] == ["f4", "f3", "f2", "f1", "f0"]
    assert (page["has_more"], rest["has_more"]) == (True, False)
