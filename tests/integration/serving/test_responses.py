"""Conversations by `previous_response_id`, with the stock openai client and the real engine."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from support.tenant import Tenant

QUESTION = "Which pier does the ferry to Morva leave from in June?"
BOOK: dict[str, Any] = {
    "type": "function",
    "name": "book",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"seats": {"type": "integer", "enum": [1, 2, 3]}},
        "required": ["seats"],
        "additionalProperties": False,
    },
}


def ask(tenant: Tenant, text: Any, **options: Any) -> Any:
    options = {"temperature": 0.0, "max_output_tokens": 24, **options}
    return tenant.openai.responses.create(model="base", input=text, **options)


def test_a_conversation_by_id_says_what_the_same_conversation_in_full_says(tenant: Tenant) -> None:
    first = ask(tenant, QUESTION)
    second = ask(tenant, "And in July?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    in_full = ask(
        tenant,
        [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "And in July?"},
        ],
    )
    assert (second.output_text, second.usage.input_tokens) == (
        in_full.output_text,
        in_full.usage.input_tokens,
    )
    third = ask(tenant, "Thanks.", previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens
    branch = ask(tenant, "And in July?", previous_response_id=first.id)
    assert branch.output_text == second.output_text


def test_a_streamed_turn_is_the_same_and_is_there_at_its_end(tenant: Tenant) -> None:
    first = ask(tenant, QUESTION)
    whole = ask(tenant, "And in July?", previous_response_id=first.id)
    events = list(ask(tenant, "And in July?", previous_response_id=first.id, stream=True))
    told = [event.response for event in events if hasattr(event, "response")]
    assert {one.previous_response_id for one in told} == {first.id}
    assert told[-1].output_text == whole.output_text
    fetched = tenant.openai.responses.retrieve(told[-1].id)
    assert fetched == told[-1]
    assert ask(tenant, "Thanks.", previous_response_id=fetched.id).output


def test_a_response_is_fetched_listed_and_deleted(tenant: Tenant, other_tenant: Tenant) -> None:
    first = ask(tenant, QUESTION, metadata={"a": "b"}, instructions="Be brief.")
    responses = tenant.openai.responses
    assert responses.retrieve(first.id) == first
    second = ask(tenant, "And in July?", previous_response_id=first.id)
    items = list(responses.input_items.list(second.id, limit=1, order="asc"))
    assert [item.content[0].text for item in items] == [
        QUESTION, first.output_text, "And in July?"
    ]  # fmt: skip
    for call in (
        lambda: other_tenant.openai.responses.retrieve(first.id),
        lambda: other_tenant.openai.responses.delete(first.id),
        lambda: ask(other_tenant, "More", previous_response_id=first.id),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    responses.delete(first.id)
    for call in (
        lambda: responses.retrieve(first.id),
        lambda: responses.delete(first.id),
        lambda: ask(tenant, "More", previous_response_id=first.id),
    ):
        with pytest.raises(openai.NotFoundError, match="not found"):
            call()
    assert responses.retrieve(second.id) == second


@pytest.mark.parametrize("stream", [False, True])
def test_a_called_tool_and_what_it_gave_are_part_of_the_conversation(
    tenant: Tenant, stream: bool
) -> None:
    choice = {"type": "function", "name": "book"}
    first = ask(tenant, "Two seats.", tools=[BOOK], tool_choice=choice, max_output_tokens=64)
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Booked."}
    asked = {"previous_response_id": first.id, "tools": [BOOK], "tool_choice": "none"}
    if stream:
        last = list(ask(tenant, [result], stream=True, **asked))[-1].response
    else:
        last = ask(tenant, [result], **asked)
    assert (last.status in ("completed", "incomplete"), last.previous_response_id) == (
        True,
        first.id,
    )
    items = tenant.openai.responses.input_items.list(last.id, order="asc").data
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]


def test_what_is_not_stored_or_not_done_here_is_said(tenant: Tenant) -> None:
    unstored = ask(tenant, QUESTION, store=False)
    with pytest.raises(openai.NotFoundError):
        tenant.openai.responses.retrieve(unstored.id)
    with pytest.raises(openai.NotFoundError) as missing:
        ask(tenant, "More", previous_response_id=unstored.id)
    assert missing.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError, match="background"):
        ask(tenant, QUESTION, background=True)
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        ask(tenant, QUESTION, conversation="conv_1")
    first = ask(tenant, QUESTION)
    with pytest.raises(openai.BadRequestError, match="background"):
        tenant.openai.responses.cancel(first.id)
    with pytest.raises(openai.BadRequestError, match="stream"):
        list(tenant.openai.responses.retrieve(first.id, stream=True))
    with pytest.raises(openai.BadRequestError, match="include"):
        tenant.openai.responses.retrieve(first.id, include=["message.output_text.logprobs"])


def test_a_conversation_too_long_is_refused_as_any_other(tenant: Tenant) -> None:
    last = ask(tenant, "word " * 120)

    def go_on_for_ever() -> None:
        nonlocal last
        for _ in range(40):
            last = ask(tenant, "word " * 120, previous_response_id=last.id)

    with pytest.raises(openai.BadRequestError, match=r"context length|maximum|too long"):
        go_on_for_ever()
    assert tenant.openai.responses.retrieve(last.id) == last
