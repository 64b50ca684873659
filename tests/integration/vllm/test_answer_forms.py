"""Answers in the forms the installed vLLM writes them in, by its own classes, as our record reads
them: reasoning and calls of tools, whole and streamed, and what it makes of prompts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.generate.base.protocol import FunctionCall
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionStreamResponse,
)
from vllm.entrypoints.openai.responses.utils import build_response_output_items
from vllm.renderers.hf import _consolidate_system_messages, _convert_developer_to_system

from server.answers.prompts import recorded_prompt
from server.answers.readers.transcript import Transcript
from server.answers.transcript import read
from server.chat_template import ChatTemplate

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
CALL = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": '{"a": 1}'}}
MESSAGE = {"role": "assistant", "content": "So.", "reasoning": "Hm.", "tool_calls": [CALL]}
PIECES: list[dict[str, Any]] = [
    {"role": "assistant", "content": ""},
    {"reasoning": "H"},
    {"reasoning": "m."},
    {"content": "S"},
    {"content": "o."},
    {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "pay"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]},
]


def chat() -> ChatCompletionResponse:
    choice = {"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}
    return ChatCompletionResponse.model_validate(
        {"model": "m", "choices": [choice], "usage": USAGE}
    )


def chat_events() -> list[str]:
    """The stream of a chat completion, as vLLM's own handler writes it."""
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": delta}] for delta in PIECES]
    choices += [[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], []]
    events = []
    for some in choices:
        told = {"id": "x", "created": 1, "model": "m", "choices": some, "usage": USAGE}
        chunk = ChatCompletionStreamResponse.model_validate(told)
        events.append(f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n")
    return [*events, "data: [DONE]\n\n"]


def anthropic_events() -> list[str]:
    async def chunks() -> AsyncIterator[str]:
        for event in chat_events():
            yield event

    async def converted() -> list[str]:
        handler = AnthropicServingMessages.__new__(AnthropicServingMessages)
        return [event async for event in handler.message_stream_converter(chunks())]

    return asyncio.run(converted())


def whole(endpoint: str) -> Transcript:
    if endpoint == "messages":
        handler = AnthropicServingMessages.__new__(AnthropicServingMessages)
        body = handler.messages_full_converter(chat()).model_dump_json(exclude_none=True)
    elif endpoint == "responses":
        call = FunctionCall(id="c1", name="pay", arguments='{"a": 1}')
        items = build_response_output_items("Hm.", "So.", [call])
        output = [item.model_dump(mode="json") for item in items]
        counts = {"input_tokens": 7, "output_tokens": 3}
        body = json.dumps({"status": "completed", "output": output, "usage": counts})
    else:
        body = chat().model_dump_json()
    return read(endpoint, [body.encode()], streamed=False)


def streamed(endpoint: str) -> Transcript:
    events = anthropic_events() if endpoint == "messages" else chat_events()
    return read(endpoint, [event.encode() for event in events], streamed=True)


@pytest.mark.parametrize(
    ("endpoint", "streams"),
    [
        ("chat.completions", False), ("chat.completions", True), ("responses", False),
        ("messages", False), ("messages", True),
    ],
)  # fmt: skip
def test_a_thought_a_text_and_a_call_are_told_apart(endpoint: str, streams: bool) -> None:
    got = streamed(endpoint) if streams else whole(endpoint)
    assert (got.answers, got.error) == (["So."], None)
    assert (got.prompt_tokens, got.completion_tokens) == (7, 3)
    (choice,) = got.choices
    assert choice.reasoning == "Hm."
    (call,) = choice.tool_calls
    if endpoint == "messages":
        assert (call["name"], call["input"], call["id"]) == ("pay", {"a": 1}, "c1")
    elif endpoint == "responses":
        assert (call["name"], call["arguments"], call["call_id"]) == ("pay", '{"a": 1}', "c1")
    else:
        assert call == CALL
    reasons = {"messages": "tool_use", "responses": "completed"}
    assert choice.finish_reason == reasons.get(endpoint, "tool_calls")


TEXTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize(
    ("system", "content"),
    [
        (None, "Hi"), ("S", "Hi"), (TEXTS, TEXTS), (TEXTS, TEXTS[:1]), (None, [*TEXTS, TEXTS[0]]),
        ([{"type": "text", "text": "x-anthropic-billing-header: cch=1"}, *TEXTS], "Hi"),
    ],
)  # fmt: skip
def test_messages_of_anthropics_are_recorded_as_vllm_converts_them(
    system: Any, content: Any, merges: bool
) -> None:
    inline = {"role": "system", "content": TEXTS}
    body: dict[str, Any] = {
        "model": "m",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": content}, inline],
        **({} if system is None else {"system": system}),
    }
    request = AnthropicMessagesRequest.model_validate(body)
    convert = AnthropicServingMessages.to_chat_completion_request
    theirs = convert(request, merge_inline_system=merges).messages
    reads_parts = ChatTemplate(joins_parts=False, system_first=merges)
    assert [dict(one) for one in recorded_prompt("messages", body, reads_parts)] == theirs


def test_a_developers_words_go_where_vllm_puts_them() -> None:
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "S"},
        {"role": "developer", "content": "D"},
        {"role": "system", "content": ""},
    ]
    theirs = _consolidate_system_messages(_convert_developer_to_system(said))  # type: ignore[arg-type]
    assert list(recorded_prompt("chat.completions", {"messages": said})) == theirs
