"""GET /v1/interactions and /v1/interactions/{id}: what a person sees of what was answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from support.door import Door, open_door

from core.ids import CompletionId, FeedbackId
from feedback.served import Served, ServedChoice, pack
from feedback.types import Choice, Comparison, Feedback, Interaction

CALL = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, f"sqlite:///{tmp_path / 'attune.db'}")
    opened.version(opened.adapter("acme", "support"), tmp_path / "v1", live=True)
    yield opened
    await opened.runtime.stop()


@pytest_asyncio.fixture
async def client(door: Door) -> AsyncIterator[httpx.AsyncClient]:
    async with door.client("acme", "train") as opened:
        yield opened


def record(door: Door, name: str, tenant: str = "acme", **changes: Any) -> None:
    told: dict[str, Any] = {
        "endpoint": "chat.completions", "created_at_s": 1_700_000_000.0, "outcome": "completed",
        "model_requested": "base", "model_answered": "base", "adapter_id": None, "version": None,
        "explored": False, "prompt": ({"role": "user", "content": "Hi"},), "answers": ("Hello.",),
        "finish_reason": "stop", **changes,
    }  # fmt: skip
    answered = Interaction(id=CompletionId(name), tenant_id=door.tenant(tenant), **told)
    door.runtime.interactions.append([answered])


def tokens(*prompts: tuple[int, ...], choices: list[tuple[int, tuple[int, ...]]]) -> bytes:
    return pack(Served(prompts, tuple(ServedChoice(at, ids, "stop") for at, ids in choices)))


async def seen(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """The answer by its id, which the list shows alike."""
    reply = await client.get(f"/v1/interactions/{name}")
    assert reply.status_code == 200, reply.text
    shown: dict[str, Any] = reply.json()
    listed = (await client.get("/v1/interactions", params={"limit": 200})).json()
    assert shown in listed["data"]
    return shown


async def test_an_answer_is_shown_with_its_tokens_and_what_was_said_of_it(
    door: Door, client: httpx.AsyncClient
) -> None:
    adapter = door.runtime.registry.get(door.tenant("acme"), "support")
    told = (Choice("stop"), Choice("length", None, "Hm."), Choice("tool_calls", 7, None, (CALL,)))
    record(
        door, "a", model_requested="auto", model_answered="support@1", adapter_id=adapter.id,
        version=1, answers=("x", "y", ""), choices=told, end_user="ann", domain="d",
        conversation_id="c", prompt_tokens=2, completion_tokens=4, sampling={"n": 3},
        request={"tools": [1]}, duration_ms=5.0,
        tokens=tokens((1, 2), choices=[(0, (3, 4)), (0, (5,)), (0, (6,))]),
    )  # fmt: skip
    about, tenant = CompletionId("a"), door.tenant("acme")
    compared = Comparison(about, (CompletionId("b"),))
    for item in (
        Feedback(FeedbackId("f1"), tenant, 1.0, about, 1, value=True, end_user="bob"),
        Feedback(FeedbackId("f2"), tenant, 2.0, name="comparison", comparison=compared),
    ):
        door.runtime.feedback.put(item)
    shown = await seen(client, "a")
    assert (shown["object"], shown["arm"], shown["adapter"], shown["version"]) == (
        *("interaction", "live", "support", 1),
    )
    assert shown["created_at"] == "2023-11-14T22:13:20.000+00:00"
    assert shown["prompt"] == [{"role": "user", "content": "Hi"}]
    assert shown["prompt_token_ids"] == [1, 2]
    assert shown["answers"] == ["x", "y", ""]
    parts = ("index", "prompt_index", "text", "finish_reason", "stop_reason", "reasoning")
    assert [[one[part] for part in parts] for one in shown["choices"]] == [
        [0, 0, "x", "stop", None, None],
        [1, 0, "y", "length", None, "Hm."],
        [2, 0, "", "tool_calls", 7, None],
    ]
    assert [one["token_ids"] for one in shown["choices"]] == [[3, 4], [5], [6]]
    assert [one["tool_calls"] for one in shown["choices"]] == [[], [], [CALL]]
    assert (shown["user"], shown["domain"], shown["conversation"]) == ("ann", "d", "c")
    assert (shown["sampling"], shown["request"]) == ({"n": 3}, {"tools": [1]})
    short = [(f["id"], f["kind"], f["value"], f["preferred"]) for f in shown["feedback"]]
    assert short == [("f2", "comparison", None, True), ("f1", "thumb", True, None)]
    assert (shown["feedback"][1]["choice_index"], shown["feedback"][1]["user"]) == (1, "bob")


@pytest.mark.parametrize(
    ("prompt", "ids", "shown"),
    [
        ("Once", ((1, 2),), [1, 2]),
        ((1, 2), ((1, 2),), [1, 2]),
        (("a", "b"), ((1,), (2, 3)), [[1], [2, 3]]),
        (((1,), (2, 3)), ((1,), (2, 3)), [[1], [2, 3]]),
        (("a",), ((1,),), [[1]]),
    ],
)
async def test_a_batch_shows_a_list_for_each_prompt(
    door: Door, client: httpx.AsyncClient, prompt: Any, ids: Any, shown: Any
) -> None:
    choices = [(at, (9, at)) for at in range(len(ids)) for _ in range(2)]
    answers = tuple(f"answer {n}" for n in range(len(choices)))
    kept = {"endpoint": "completions", "prompt": prompt, "answers": answers}
    record(door, "a", tokens=tokens(*ids, choices=choices), **kept)
    record(door, "b", tokens=None, **kept)
    with_ids, without = await seen(client, "a"), await seen(client, "b")
    for one in (with_ids, without):
        asked = [list(item) if isinstance(item, tuple) else item for item in prompt]
        assert one["prompt"] == (prompt if isinstance(prompt, str) else asked)
        assert [c["prompt_index"] for c in one["choices"]] == [at for at, _ in choices]
    assert with_ids["prompt_token_ids"] == shown
    assert without["prompt_token_ids"] is None
    assert {choice["token_ids"] for choice in without["choices"]} == {None}


async def test_tokens_that_cannot_be_read_hide_nothing_else(
    door: Door, client: httpx.AsyncClient
) -> None:
    record(door, "a", tokens=b"\xff")
    shown = await seen(client, "a")
    assert (shown["prompt_token_ids"], shown["answers"]) == (None, ["Hello."])


async def test_what_broke_off_before_a_word_is_shown_too(
    door: Door, client: httpx.AsyncClient
) -> None:
    sampled = tokens((1,), choices=[(0, (4,))])
    record(door, "a", outcome="cancelled", answers=(), finish_reason=None, tokens=sampled)
    record(door, "b", outcome="failed", answers=(), finish_reason=None, response={"error": "e"})
    (choice,) = (await seen(client, "a"))["choices"]
    assert (choice["text"], choice["finish_reason"], choice["token_ids"]) == ("", None, [4])
    failed = await seen(client, "b")
    assert (failed["outcome"], failed["error"], failed["choices"]) == ("failed", "e", [])


async def test_the_items_of_a_response_are_shown_as_the_model_read_them(
    door: Door, client: httpx.AsyncClient
) -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    output = {"type": "function_call_output", "call_id": "c", "output": "1"}
    items = ({"role": "developer", "content": "Be brief"}, {"role": "user", "content": parts})
    record(door, "resp_a", endpoint="responses", prompt=(*items, output))
    shown = await seen(client, "resp_a")
    assert shown["prompt"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "a\nb"},
        output,
    ]


async def test_another_tenants_answer_does_not_exist(door: Door, client: httpx.AsyncClient) -> None:
    record(door, "theirs", tenant="other")
    record(door, "mine")
    absent = await client.get("/v1/interactions/nobodys")
    refused = await client.get("/v1/interactions/theirs")
    assert (refused.status_code, absent.status_code) == (404, 404)
    assert refused.text == absent.text.replace("nobodys", "theirs")
    listed = (await client.get("/v1/interactions")).json()
    assert [one["id"] for one in listed["data"]] == ["mine"]
    assert (await client.get("/v1/interactions?after=theirs")).status_code == 404
    async with door.client("acme", "inference", "feedback") as other:
        assert (await other.get("/v1/interactions/mine")).status_code == 403


FILTERS = {
    "": "cba", "adapter=support": "b", "adapter=support&version=1": "b",
    "adapter=support&version=2": "", "model=support@1": "b", "model=base": "ca",
    "outcome=cancelled": "c", "endpoint=messages": "c", "user=ann": "b", "domain=d": "b",
    "conversation=c": "b", "judged=true": "a", "judged=false": "cb", "since=200": "cb",
    "until=200": "a", "since=1970-01-01T00:03:20Z&until=1970-01-01T01:05:00+01:00": "b",
    "since=1970-01-01T00:05": "c", "judged=false&user=ann": "b",
}  # fmt: skip
REFUSED = {
    "limit=0": "limit", "limit=201": "limit", "limit=x": "limit", "version=1": "version",
    "adapter=support&version=0": "version", "adapter=support&version=1&model=base": "model",
    "outcome=lost": "outcome", "judged=maybe": "judged", "endpoint=chat": "endpoint",
    "since=yesterday": "since", "since=nan": "since", "until=-1": "until", "until=1e400": "until",
}  # fmt: skip


async def test_the_list_is_filtered(door: Door, client: httpx.AsyncClient) -> None:
    adapter = door.runtime.registry.get(door.tenant("acme"), "support")
    theirs = {"model_answered": "support@1", "adapter_id": adapter.id, "version": 1}
    named = {"end_user": "ann", "domain": "d", "conversation_id": "c"}
    record(door, "a", created_at_s=100.0)
    record(door, "b", created_at_s=200.0, **theirs, **named)
    record(door, "c", created_at_s=300.0, outcome="cancelled", endpoint="messages")
    item = Feedback(FeedbackId("f"), door.tenant("acme"), 1.0, CompletionId("a"), value=True)
    door.runtime.feedback.put(item)
    found = {}
    for asked in FILTERS:
        listed = (await client.get(f"/v1/interactions?{asked}")).json()["data"]
        found[asked] = "".join(one["id"] for one in listed)
    assert found == FILTERS


async def test_what_nobody_can_look_for_is_refused_by_name(client: httpx.AsyncClient) -> None:
    for asked, param in REFUSED.items():
        reply = await client.get(f"/v1/interactions?{asked}")
        error = reply.json()["error"]
        assert (reply.status_code, error["param"]) == (400, param), (asked, reply.text)
        assert error["message"]
    for asked in ("after=nobody", "adapter=nobody"):
        assert (await client.get(f"/v1/interactions?{asked}")).status_code == 404


async def test_pages_follow_each_other(door: Door, client: httpx.AsyncClient) -> None:
    for number in range(5):
        record(door, f"c{number}", created_at_s=float(number))
    ids, after = [], ""
    while True:
        page = (await client.get(f"/v1/interactions?limit=2{after}")).json()
        ids += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        assert page["last_id"] == ids[-1]
        after = f"&after={page['last_id']}"
    assert ids == ["c4", "c3", "c2", "c1", "c0"]
