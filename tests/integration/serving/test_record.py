"""The record over HTTP, at the real engine: each choice with its own end, its calls and its prompt
as the model read it, at every endpoint, streamed or not."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import Anthropic
from support.tenant import Tenant

QUESTION = "Which pier does the ferry to Morva leave from in June?"
SEATS = {
    "type": "object",
    "properties": {"seats": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["seats"],
    "additionalProperties": False,
}
BOOK = {"type": "function", "function": {"name": "book", "parameters": SEATS}}
PARTS: Any = [{"type": "text", "text": "Two seats."}, {"type": "text", "text": "Which pier?"}]
JOINED = "Two seats.\nWhich pier?"


def record(tenant: Tenant, completion_id: str) -> dict[str, Any]:
    """What the stock client gets of an answer's record."""
    found: Any = tenant.openai.get(f"/interactions/{completion_id}", cast_to=object)
    return dict(found)


def anthropic(tenant: Tenant) -> Anthropic:
    return Anthropic(base_url=tenant.server.url, api_key=tenant.key, max_retries=0)


def test_choices_end_each_in_its_own_way(tenant: Tenant) -> None:
    """Sampled answers: some come upon the letter that ends them, others are cut before."""
    asked: dict[str, Any] = {"n": 16, "max_tokens": 4, "temperature": 1.0, "seed": 3}
    asked["stop"] = ["e"]
    whole = tenant.ask("base", "Where is the library?", **asked)
    ended = [choice.finish_reason for choice in whole.choices]
    assert set(ended) == {"stop", "length"}, ended
    chunks = list(tenant.ask("base", "Where is the library?", stream=True, **asked))
    streamed: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            streamed[choice.index] = choice.finish_reason or streamed.get(choice.index, "")
    kept = record(tenant, whole.id)
    assert [choice["finish_reason"] for choice in kept["choices"]] == ended
    assert [choice["text"] for choice in kept["choices"]] == [
        choice.message.content for choice in whole.choices
    ]
    kept = record(tenant, chunks[0].id)
    assert [c["finish_reason"] for c in kept["choices"]] == [streamed[at] for at in range(16)]


def test_a_stop_string_is_what_ended_it(tenant: Tenant) -> None:
    answer = tenant.ask("base", QUESTION, stop=["e"])
    (choice,) = record(tenant, answer.id)["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "e")


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_tools_are_kept_at_every_endpoint(tenant: Tenant, stream: bool) -> None:
    forced: dict[str, Any] = {"type": "function", "function": {"name": "book"}}
    said: Any = tenant.ask(
        "base", "Two.", tools=[BOOK], tool_choice=forced, max_tokens=64, stream=stream
    )
    said_id = next(iter(said)).id if stream else said.id
    tools: Any = [{"name": "book", "input_schema": SEATS}]
    message = {
        "model": "base", "max_tokens": 64, "messages": [{"role": "user", "content": "Two."}],
        "tools": tools, "tool_choice": {"type": "tool", "name": "book"},
    }  # fmt: skip
    if stream:
        with anthropic(tenant).messages.stream(**message) as events:
            final = events.get_final_message()
    else:
        final = anthropic(tenant).messages.create(**message)
    (used,) = [block for block in final.content if block.type == "tool_use"]
    response: Any = tenant.openai.responses.create(
        model="base", input="Two.", max_output_tokens=64, stream=stream,
        tools=[{"type": "function", "name": "book", "parameters": SEATS}],
        tool_choice={"type": "function", "name": "book"},
    )  # fmt: skip
    response_id = list(response)[-1].response.id if stream else response.id
    chat, sent, item = (
        record(tenant, one)["choices"][0] for one in (said_id, final.id, response_id)
    )
    (call,) = chat["tool_calls"]
    assert call["function"]["name"] == "book"
    assert '"seats"' in call["function"]["arguments"]
    (call,) = sent["tool_calls"]
    assert (call["name"], call["id"], call["input"]) == ("book", used.id, used.input)
    assert sent["finish_reason"] == final.stop_reason == "tool_use"
    (call,) = item["tool_calls"]
    assert (call["type"], call["name"]) == ("function_call", "book")
    assert '"seats"' in call["arguments"]


def test_a_prompt_is_recorded_as_the_model_read_it(tenant: Tenant) -> None:
    """Its words give as many tokens, rendered again, as the engine read."""
    blocks: Any = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": " Be kind."}]
    message = anthropic(tenant).messages.create(
        model="base", max_tokens=4, system=blocks, messages=[{"role": "user", "content": PARTS}]
    )
    chat = tenant.openai.chat.completions.create(
        model="base", max_tokens=4,
        messages=[
            {"role": "user", "content": "Hello."},
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": PARTS},
        ],
    )  # fmt: skip
    response = tenant.openai.responses.create(
        model="base", max_output_tokens=16, instructions="Be brief.",
        input=[{"role": "user", "content": [{"type": "input_text", "text": one["text"]}
                                            for one in PARTS]}],
    )  # fmt: skip
    brief = {"role": "system", "content": "Be brief."}
    user = {"role": "user", "content": JOINED}
    told = {
        message.id: [{"role": "system", "content": "Be brief. Be kind."}, user],
        chat.id: [brief, {"role": "user", "content": "Hello."}, user],
        response.id: [brief, user],
    }
    with tenant.http as http:
        for own_id, prompt in told.items():
            kept = record(tenant, own_id)
            assert kept["prompt"] == prompt
            asked = {"model": "base", "messages": prompt, "add_generation_prompt": True}
            rendered = http.post("/tokenize", json=asked).json()
            assert rendered["count"] == kept["prompt_tokens"]


def test_prompts_of_a_batch_stand_apart(tenant: Tenant) -> None:
    asked: dict[str, Any] = {"model": "base", "max_tokens": 3, "n": 2}
    texts = tenant.openai.completions.create(prompt=["The ferry", "A bridge"], **asked)
    ids = tenant.openai.completions.create(prompt=[[5, 6, 7], [8, 9]], **asked)
    alone = tenant.openai.completions.create(prompt=[5, 6, 7], **asked)
    for completion, prompt in (
        (texts, ["The ferry", "A bridge"]),
        (ids, [[5, 6, 7], [8, 9]]),
        (alone, [5, 6, 7]),
    ):
        kept = record(tenant, completion.id)
        assert kept["prompt"] == prompt
        assert kept["answers"] == [choice.text for choice in completion.choices]
        places = [0, 0, 1, 1] if completion is not alone else [0, 0]
        assert [choice["prompt_index"] for choice in kept["choices"]] == places


def test_the_stock_client_lists_looks_and_is_told_what_was_said(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    first = tenant.ask("base", QUESTION, user="ann")
    second = tenant.ask("base", QUESTION, user="bob")
    other_tenant.ask("base", QUESTION)
    thumb = {"completion_id": first.id, "value": True}
    assert tenant.http.post("/v1/feedback", json=thumb).status_code == 201

    def listed(**query: Any) -> list[dict[str, Any]]:
        page: Any = tenant.openai.get("/interactions", cast_to=object, options={"params": query})
        return list(page["data"])

    assert [one["id"] for one in listed()] == [second.id, first.id]
    assert [one["id"] for one in listed(limit=1, after=second.id)] == [first.id]
    (judged,) = listed(judged=True)
    assert judged == record(tenant, first.id)
    assert judged["arm"] == "base"
    assert [item["value"] for item in judged["feedback"]] == [True]
    assert [one["user"] for one in listed(judged=False)] == ["bob"]
    absent = other_tenant.http.get(f"/v1/interactions/{first.id}")
    assert absent.status_code == 404
