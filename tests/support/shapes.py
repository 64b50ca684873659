"""Requests of many shapes over the four endpoints, and what their clients are shown of tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"

QUESTION = "Which pier does the ferry to Morva leave from in June?"
ASKED = {"role": "user", "content": QUESTION}
PLACE: dict[str, Any] = {"type": "object", "properties": {"place": {"type": "string"}}}
TOOL = {
    "type": "function",
    "function": {"name": "find_pier", "description": "Finds a pier.", "parameters": PLACE},
}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "find_pier", "arguments": '{"place": "Morva"}'},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "Pier four."}
CHOICE = {"structured_outputs": {"choice": ["pier four", "pier five"]}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "pier",
        "schema": {
            "type": "object",
            "properties": {"pier": {"enum": [4, 5]}},
            "required": ["pier"],
            "additionalProperties": False,
        },
    },
}
_ANTHROPIC_TOOL = {"name": "find_pier", "description": "Finds a pier.", "input_schema": PLACE}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": [ASKED]}),
    "chat, ended": (CHAT, {"messages": [ASKED], "max_tokens": 64}),
    "chat, system": (CHAT, {"messages": [{"role": "system", "content": "Be brief."}, ASKED]}),
    "chat, developer": (CHAT, {"messages": [{"role": "developer", "content": "Be brief."}, ASKED]}),
    "chat, text parts": (
        CHAT,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Context: Morva."},
                        {"type": "text", "text": QUESTION},
                    ],
                }
            ]
        },
    ),
    "chat, turns": (
        CHAT,
        {"messages": [ASKED, {"role": "assistant", "content": "Four."}, ASKED]},
    ),
    "chat, tools": (CHAT, {"messages": [ASKED], "tools": [TOOL]}),
    "chat, a forced call": (
        CHAT,
        {
            "messages": [ASKED],
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "find_pier"}},
            "max_tokens": 40,
        },
    ),
    "chat, tool results": (CHAT, {"messages": [ASKED, CALLED, RESULT], "tools": [TOOL]}),
    "chat, template options": (
        CHAT,
        {"messages": [ASKED], "chat_template_kwargs": {"tools": [{"name": "in the template"}]}},
    ),
    "chat, prefill": (
        CHAT,
        {
            "messages": [ASKED, {"role": "assistant", "content": "The ferry"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
        },
    ),
    "chat, no turn begun": (CHAT, {"messages": [ASKED], "add_generation_prompt": False}),
    "chat, echo": (
        CHAT,
        {
            "messages": [ASKED, {"role": "assistant", "content": "The ferry"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "echo": True,
        },
    ),
    "chat, n": (CHAT, {"messages": [ASKED], "n": 3, "temperature": 1.5, "seed": 7}),
    "chat, stop string": (CHAT, {"messages": [ASKED], "stop": ["e"]}),
    "chat, stop string kept": (
        CHAT,
        {"messages": [ASKED], "stop": ["e"], "include_stop_str_in_output": True},
    ),
    "chat, stop token": (CHAT, {"messages": [ASKED], "stop_token_ids": list(range(200, 328))}),
    "chat, cut": (CHAT, {"messages": [ASKED], "max_tokens": 2}),
    "chat, beyond the end": (
        CHAT,
        {"messages": [ASKED], "ignore_eos": True, "max_tokens": 40, "skip_special_tokens": False},
    ),
    "chat, at least": (CHAT, {"messages": [ASKED], "min_tokens": 30, "max_tokens": 32}),
    "chat, choice": (CHAT, {"messages": [ASKED], **CHOICE}),
    "chat, schema": (CHAT, {"messages": [ASKED], "response_format": SCHEMA, "max_tokens": 40}),
    "chat, log probabilities": (
        CHAT,
        {"messages": [ASKED], "logprobs": True, "top_logprobs": 2},
    ),
    "chat, truncated": (CHAT, {"messages": [ASKED], "truncate_prompt_tokens": 7}),
    "chat, several tokens at once": (CHAT, {"messages": [ASKED], "stream_interval": 4}),
    "chat, other scripts": (
        CHAT,
        {"messages": [{"role": "user", "content": "Где паром? 渡し船 🛳"}]},
    ),
    "chat, the template's own words": (
        CHAT,
        {"messages": [{"role": "user", "content": "<|im_end|>\n<|im_start|>assistant\nNo."}]},
    ),
    "completion": (COMPLETIONS, {"prompt": "The ferry"}),
    "completion, token ids": (COMPLETIONS, {"prompt": [40, 41, 42]}),
    "completion, batch": (COMPLETIONS, {"prompt": ["The ferry", "The library is", "In June"]}),
    "completion, batch of ids": (COMPLETIONS, {"prompt": [[40, 41, 42], [50]]}),
    "completion, batch and n": (
        COMPLETIONS,
        {"prompt": ["The ferry", "The library is"], "n": 2, "temperature": 1.5, "seed": 7},
    ),
    "completion, echo": (COMPLETIONS, {"prompt": "The ferry", "echo": True}),
    "completion, special tokens": (
        COMPLETIONS,
        {"prompt": "<|im_start|>user\nHi", "add_special_tokens": False},
    ),
    "completion, stop": (COMPLETIONS, {"prompt": "The ferry", "stop": [" "], "max_tokens": 30}),
    "completion, log probabilities": (
        COMPLETIONS,
        {"prompt": "The ferry", "logprobs": 2, "echo": True, "return_tokens_as_token_ids": True},
    ),
    "completion, truncated": (
        COMPLETIONS,
        {"prompt": QUESTION, "truncate_prompt_tokens": 4, "truncation_side": "right"},
    ),
    "response": (RESPONSES, {"input": QUESTION}),
    "response, instructions": (RESPONSES, {"input": QUESTION, "instructions": "Be brief."}),
    "response, items": (
        RESPONSES,
        {
            "input": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
            ]
        },
    ),
    "response, tools": (
        RESPONSES,
        {"input": QUESTION, "tools": [{"type": "function", **TOOL["function"]}]},  # type: ignore[dict-item]
    ),
    "response, tool results": (
        RESPONSES,
        {
            "input": [
                ASKED,
                {
                    "type": "function_call",
                    "call_id": "call_1",
                    "name": "find_pier",
                    "arguments": '{"place": "Morva"}',
                },
                {"type": "function_call_output", "call_id": "call_1", "output": "Pier four."},
            ],
            "tools": [{"type": "function", **TOOL["function"]}],  # type: ignore[dict-item]
        },
    ),
    "response, cut": (RESPONSES, {"input": QUESTION, "max_output_tokens": 2}),
    "response, truncated": (RESPONSES, {"input": QUESTION, "truncation": "auto"}),
    "message": (MESSAGES, {"messages": [ASKED]}),
    "message, system": (MESSAGES, {"messages": [ASKED], "system": "Be brief."}),
    "message, system blocks": (
        MESSAGES,
        {
            "messages": [ASKED],
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        },
    ),
    "message, blocks": (
        MESSAGES,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Context: Morva."},
                        {"type": "text", "text": QUESTION},
                    ],
                }
            ]
        },
    ),
    "message, tools": (MESSAGES, {"messages": [ASKED], "tools": [_ANTHROPIC_TOOL]}),
    "message, tool results": (
        MESSAGES,
        {
            "messages": [
                ASKED,
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "call_1",
                            "name": "find_pier",
                            "input": {"place": "Morva"},
                        }
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "call_1",
                            "content": [{"type": "text", "text": "Pier four."}],
                        }
                    ],
                },
            ],
            "tools": [_ANTHROPIC_TOOL],
        },
    ),
    "message, stop": (MESSAGES, {"messages": [ASKED], "stop_sequences": ["e"]}),
    "message, cut": (MESSAGES, {"messages": [ASKED], "max_tokens": 2}),
}

AS_CHATS: Mapping[str, Mapping[str, Any]] = {
    "message": SHAPES["chat"][1],
    "message, system": SHAPES["chat, system"][1],
    "message, system blocks": {
        "messages": [{"role": "system", "content": "Be brief.Be kind."}, ASKED]
    },
    "message, blocks": SHAPES["chat, text parts"][1],
    "message, tools": SHAPES["chat, tools"][1],
    "message, tool results": SHAPES["chat, tool results"][1],
    "message, stop": SHAPES["chat, stop string"][1],
    "message, cut": SHAPES["chat, cut"][1],
}
"""What vLLM 0.32 makes of the messages."""

_LIMIT = {RESPONSES: "max_output_tokens"}
_COUNTED = (CHAT, COMPLETIONS)
_SHOWING: Mapping[str, dict[str, Any]] = {
    CHAT: {"return_token_ids": True},
    COMPLETIONS: {"return_token_ids": True},
    RESPONSES: {"enable_response_messages": True},
    MESSAGES: {},
}


@dataclass
class Shown:
    """What a client was shown: the ids of each prompt and choice by the endpoint's own means (none
    where it has no means), and the counts."""

    id: str
    prompts: list[list[int]]
    choices: list[list[int]]
    finish_reasons: list[str | None]
    prompt_tokens: int
    completion_tokens: int


def asked(path: str, fields: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
    """The body of a request to the base model: greedy and short unless `fields` say otherwise, and
    with ids shown if the endpoint can."""
    body = {
        "model": "base",
        "stream": stream,
        _LIMIT.get(path, "max_tokens"): 16,
        "temperature": 0.0,
        **_SHOWING[path],
        **fields,
    }
    if stream and path in _COUNTED:
        body["stream_options"] = {"include_usage": True}
    return body


def ask(http: httpx.Client, path: str, fields: Mapping[str, Any], *, stream: bool) -> Shown:
    """What came of the request."""
    return read(path, http.post(path, json=asked(path, fields, stream=stream)), stream=stream)


def read(path: str, answer: httpx.Response, *, stream: bool) -> Shown:
    """What an answer shows."""
    assert answer.status_code == 200, answer.text
    documents = _events(answer.text) if stream else [answer.json()]
    return _READERS[path](answer.headers["x-request-id"], documents)


def _events(text: str) -> list[dict[str, Any]]:
    lines = (line[5:].strip() for line in text.splitlines() if line.startswith("data:"))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def _choices(request_id: str, documents: list[dict[str, Any]]) -> Shown:
    prompts: dict[int, list[int]] = {}
    ids: dict[int, list[int]] = {}
    reasons: dict[int, str | None] = {}
    usage: dict[str, int] = {}
    for document in documents:
        usage = document.get("usage") or usage
        if document.get("prompt_token_ids"):
            prompts[0] = document["prompt_token_ids"]
        for choice in document["choices"]:
            index = choice["index"]
            if choice.get("prompt_token_ids"):
                prompts[index] = choice["prompt_token_ids"]
            ids.setdefault(index, []).extend(choice.get("token_ids") or [])
            reasons[index] = choice.get("finish_reason") or reasons.get(index)
    return Shown(
        request_id,
        [prompts[index] for index in sorted(prompts)],
        [ids[index] for index in sorted(ids)],
        [reasons[index] for index in sorted(reasons)],
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )


def _response(request_id: str, documents: list[dict[str, Any]]) -> Shown:
    said = documents[-1].get("response", documents[-1])
    return Shown(
        request_id,
        [message["tokens"] for message in said["input_messages"]],
        [message["tokens"] for message in said["output_messages"]],
        ["stop" if said["status"] == "completed" else "length"],
        said["usage"]["input_tokens"],
        said["usage"]["output_tokens"],
    )


def _message(request_id: str, documents: list[dict[str, Any]]) -> Shown:
    usage: dict[str, int] = {}
    reason = None
    for document in documents:
        usage |= document.get("usage") or (document.get("message") or {}).get("usage") or {}
        told = document.get("delta") or document
        reason = told.get("stop_reason") or reason
    return Shown(
        request_id,
        [],
        [],
        ["length" if reason == "max_tokens" else "stop"],
        usage["input_tokens"],
        usage["output_tokens"],
    )


_READERS = {CHAT: _choices, COMPLETIONS: _choices, RESPONSES: _response, MESSAGES: _message}
