"""Response bytes to transcripts, for every endpoint, whole, streamed and cut off anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.answers.transcript import ENDPOINTS, ENDS, Transcript, read


def read_answer(endpoint: str, body: bytes) -> Transcript:
    return read(endpoint, [body], streamed=False)


def read_stream(endpoint: str, chunks: Sequence[bytes]) -> Transcript:
    return read(endpoint, chunks, streamed=True)


def events(*payloads: Any, named: bool = False) -> bytes:
    """Server-sent events as vLLM writes them."""
    lines = []
    for payload in payloads:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        name = f"event: {payload['type']}\n" if named else ""
        lines.append(f"{name}data: {text}\n\n")
    return "".join(lines).encode()


def chat_chunk(text: str | None, index: int = 0, finish: str | None = None, **delta: Any) -> Any:
    delta = {**({} if text is None else {"content": text}), **delta}
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_a_chat_answer_is_its_choices_texts() -> None:
    body = {
        "choices": [
            {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": None}, "finish_reason": "length"},
        ],
        "usage": USAGE,
    }
    got = read_answer("chat.completions", json.dumps(body).encode())
    assert got == Transcript(["Hi", ""], "stop", 7, 3)


def test_a_chat_stream_is_put_together_by_choice() -> None:
    stream = events(
        chat_chunk("", role="assistant"),
        chat_chunk("Hel"),
        chat_chunk("Yo", index=1),
        chat_chunk("lo"),
        chat_chunk(None, finish="stop"),
        {"choices": [], "usage": USAGE},
        "[DONE]",
    )
    assert read_stream("chat.completions", [stream]) == Transcript(["Hello", "Yo"], "stop", 7, 3)


def test_tool_calls_are_merged_from_their_pieces() -> None:
    def call(index: int, **function: str) -> Any:
        return chat_chunk(None, tool_calls=[{"index": index, "function": function}])

    first = chat_chunk(None, tool_calls=[{"index": 0, "id": "c1", "function": {"name": "pay"}}])
    stream = events(first, call(0, arguments='{"a":'), call(1, name="go"), call(0, arguments="1}"))
    got = read_stream("chat.completions", [stream])
    assert got.extra["tool_calls"] == [
        {"function": {"name": "pay", "arguments": '{"a":1}'}, "id": "c1"},
        {"function": {"name": "go", "arguments": ""}, "id": None},
    ]
    whole = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "c1"}]}}]}
    answer = read_answer("chat.completions", json.dumps(whole).encode())
    assert answer.extra == {"tool_calls": [{"id": "c1"}]}


def test_plain_completions_are_read_whole_and_streamed() -> None:
    body = {"choices": [{"text": "once", "finish_reason": "length"}], "usage": USAGE}
    assert read_answer("completions", json.dumps(body).encode()) == Transcript(
        ["once"], "length", 7, 3
    )
    stream = events(
        {"choices": [{"index": 1, "text": "b"}]},
        {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]},
        "[DONE]",
    )
    assert read_stream("completions", [stream]) == Transcript(["a", "b"], "stop")


def responses_document(status: str, text: str) -> dict[str, Any]:
    return {
        "status": status,
        "output": [
            {"type": "reasoning", "content": [{"text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": text}]},
            {"type": "function_call", "name": "pay", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


def test_a_response_is_its_messages_and_calls() -> None:
    got = read_answer("responses", json.dumps(responses_document("completed", "Hi")).encode())
    assert (got.answers, got.finish_reason) == (["Hi"], "completed")
    assert (got.prompt_tokens, got.completion_tokens) == (7, 3)
    assert got.extra["tool_calls"][0]["name"] == "pay"


def test_a_streamed_response_is_its_last_event_or_as_far_as_it_came() -> None:
    deltas = [{"type": "response.output_text.delta", "delta": part} for part in ("He", "llo")]
    end = {"type": "response.completed", "response": responses_document("completed", "Hello")}
    cut = read_stream("responses", [events(*deltas, named=True)])
    assert (cut.answers, cut.finish_reason) == (["Hello"], None)
    done = read_stream("responses", [events(*deltas, end, named=True)])
    assert (done.answers, done.finish_reason) == (["Hello"], "completed")


@pytest.mark.parametrize("whole", [True, False])
def test_a_response_that_failed_is_not_an_answer(whole: bool) -> None:
    document = {**responses_document("failed", ""), "error": {"message": "boom"}}
    if whole:
        got = read_answer("responses", json.dumps(document).encode())
    else:
        event = {"type": "response.failed", "response": document}
        got = read_stream("responses", [events(event, named=True)])
    assert got.error is not None
    assert "boom" in got.error


def test_anthropics_messages_are_read_whole_and_streamed() -> None:
    whole = {
        "content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "name": "pay"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }
    got = read_answer("messages", json.dumps(whole).encode())
    assert got == Transcript(
        ["Hi"], "end_turn", 7, 3, {"tool_calls": [{"type": "tool_use", "name": "pay"}]}
    )
    stream = events(
        {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 0}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "H"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "i"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 3},
        },
        {"type": "message_stop"},
        named=True,
    )
    assert read_stream("messages", [stream]) == Transcript(["Hi"], "end_turn", 7, 3)


@pytest.mark.parametrize("endpoint", ["chat.completions", "completions", "messages"])
def test_an_error_inside_a_stream_is_kept_as_one(endpoint: str) -> None:
    event = {"type": "error", "error": {"message": "boom"}}
    got = read_stream(endpoint, [events(event, "[DONE]")])
    assert got.error is not None
    assert "boom" in got.error


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS.values()))
@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"choices": [', b"[]", b"null", b"5"])
def test_a_whole_answer_that_is_no_answer_is_an_error_not_an_accident(
    endpoint: str, body: bytes
) -> None:
    assert read_answer(endpoint, body).error is not None


@pytest.mark.parametrize(
    "body",
    [
        {"choices": None, "output": None, "content": None},
        {"choices": [{"message": None, "text": None}], "output": [{"type": "message"}]},
        {"choices": [None], "output": [None], "content": [None]},
        {"choices": {}, "usage": 5},
    ],
)
@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS.values()))
def test_nulls_where_lists_and_objects_belong_do_not_stop_the_record(
    endpoint: str, body: dict[str, Any]
) -> None:
    read_answer(endpoint, json.dumps(body).encode())
    kinds = ("response.completed", "content_block_delta", "message_start", "message_delta")
    chunks = [
        {**body, "type": kind, "response": given, "delta": given, "message": given}
        for kind in kinds
        for given in (None, body)
    ]
    read_stream(endpoint, [events({"choices": [{"delta": None}]}, *chunks)])


@given(st.integers(0, 400), st.integers(1, 50))
def test_a_stream_cut_anywhere_keeps_what_came_before(cut: int, size: int) -> None:
    """However the bytes are packed into chunks, the text read is a beginning of the answer."""
    stream = events(chat_chunk("", role="assistant"), *(chat_chunk(c) for c in "Grüße!"), "[DONE]")
    kept = stream[: cut * len(stream) // 400]
    chunks = [kept[at : at + size] for at in range(0, len(kept), size)]
    got = read_stream("chat.completions", chunks)
    assert "Grüße!".startswith("".join(got.answers))
    assert got.error is None


def test_an_answer_that_quotes_the_protocol_is_only_text() -> None:
    said = 'data: [DONE]\n\ndata: {"error": 1}\nevent: message_stop\n'
    got = read_stream("chat.completions", [events(chat_chunk(said), "[DONE]")])
    assert (got.answers, got.error) == ([said], None)


@pytest.mark.parametrize(
    "last",
    [
        "[DONE]",
        {"type": "response.completed"},
        {"type": "response.incomplete"},
        {"type": "response.failed"},
        {"type": "message_stop"},
    ],
)
def test_the_end_of_every_endpoints_stream_is_known_and_no_answer_that_quotes_it(last: Any) -> None:
    end = events(last, named=isinstance(last, dict))
    assert ENDS.search(end)
    assert ENDS.search(events(chat_chunk("Hi")) + end)
    assert not ENDS.search(events(chat_chunk(end.decode())))
    assert not ENDS.search(events({"type": "response.created"}, named=True))
