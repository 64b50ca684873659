"""The stock openai client, unmodified, against Attune."""

from __future__ import annotations

import json

import openai
import pytest
from support.tenant import Tenant

QUESTION = "Which pier does the ferry to Morva leave from in June?"
ASK = [{"role": "user", "content": QUESTION}]
BOOK = {
    "type": "function",
    "function": {
        "name": "book",
        "parameters": {
            "type": "object",
            "properties": {
                "seats": {"type": "integer", "enum": [1, 2, 3]},
                "day": {"type": "string", "enum": ["monday", "sunday"]},
            },
            "required": ["seats", "day"],
            "additionalProperties": False,
        },
    },
}


def test_chat_answers_in_one_piece_and_names_the_version(tenant: Tenant) -> None:
    raw = tenant.openai.chat.completions.with_raw_response.create(model="base", messages=ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.model == "base"
    assert raw.headers["x-attune-version"] == "base"
    assert raw.headers["x-request-id"] == answer.id


def test_a_stream_says_what_the_whole_answer_says(tenant: Tenant) -> None:
    whole = tenant.ask("base", QUESTION).choices[0].message.content
    stream = tenant.ask("base", QUESTION, stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole
    assert {chunk.model for chunk in chunks} == {"base"}
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_a_stream_counts_tokens_only_for_those_who_ask(tenant: Tenant) -> None:
    """The server always counts for its record; the client sees the count only on request."""
    silent = list(tenant.ask("base", QUESTION, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in silent)
    counted = list(
        tenant.ask("base", QUESTION, stream=True, stream_options={"include_usage": True})
    )
    assert counted[-1].usage is not None
    assert counted[-1].usage.completion_tokens > 0


def test_completions(tenant: Tenant) -> None:
    answer = tenant.openai.completions.create(model="base", prompt="The ferry", max_tokens=4)
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text


def test_responses_streamed_and_not(tenant: Tenant) -> None:
    answer = tenant.openai.responses.create(model="base", input=QUESTION, max_output_tokens=64)
    assert answer.output_text
    assert answer.model == "base"
    with tenant.openai.responses.stream(
        model="base", input=QUESTION, max_output_tokens=64
    ) as stream:
        final = stream.until_done().get_final_response()
    assert final.output_text


def test_anthropic_messages_keep_working(tenant: Tenant) -> None:
    with tenant.http as http:
        answer = http.post(
            "/v1/messages", json={"model": "base", "max_tokens": 32, "messages": ASK}
        )
    assert answer.status_code == 200
    assert answer.json()["content"][0]["text"]


def test_models_lists_what_the_key_may_use(tenant: Tenant) -> None:
    tenant.http.post("/v1/adapters", json={"name": "support"})
    assert [model.id for model in tenant.openai.models.list()] == ["base", "auto", "support"]
    assert tenant.openai.models.retrieve("support").id == "support"


def test_a_forced_tool_call_follows_its_schema(tenant: Tenant) -> None:
    answer = tenant.openai.chat.completions.create(
        model="base",
        messages=ASK,
        tools=[BOOK],
        tool_choice={"type": "function", "function": {"name": "book"}},
        max_tokens=128,
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "book"
    arguments = json.loads(call.function.arguments)
    assert arguments["seats"] in (1, 2, 3)
    assert arguments["day"] in ("monday", "sunday")


def test_json_schema_output(tenant: Tenant) -> None:
    schema = {
        "type": "object",
        "properties": {"open": {"type": "boolean"}, "pier": {"enum": ["north", "south"]}},
        "required": ["open", "pier"],
        "additionalProperties": False,
    }
    answer = tenant.openai.chat.completions.create(
        model="base",
        messages=ASK,
        max_tokens=128,
        response_format={"type": "json_schema", "json_schema": {"name": "pier", "schema": schema}},
    )
    said = json.loads(answer.choices[0].message.content)
    assert isinstance(said["open"], bool)
    assert said["pier"] in ("north", "south")


def test_logprobs(tenant: Tenant) -> None:
    answer = tenant.ask("base", QUESTION, logprobs=True, top_logprobs=2)
    first = answer.choices[0].logprobs.content[0]
    assert first.logprob <= 0
    assert len(first.top_logprobs) == 2


def test_an_error_reads_well(tenant: Tenant) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        tenant.ask("gpt-4", QUESTION)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "GET /v1/models lists what this key may use" in str(caught.value)


def test_a_wrong_key_is_an_authentication_error(tenant: Tenant) -> None:
    client = openai.OpenAI(base_url=f"{tenant.server.url}/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="attune keys create"):
        client.models.list()
