"""Response bytes to transcripts, for every endpoint, whole, streamed and cut off anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.types import Choice
from server.answers.readers.transcript import Transcript
from server.answers.transcript import ENDPOINTS, ENDS, read


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


def told(*answers: tuple[str, Choice]) -> Transcript:
    """What is read of answers whose tokens were not counted."""
    return Transcript([text for text, _ in answers], [choice for _, choice in answers])


def counted(*answers: tuple[str, Choice]) -> Transcript:
    transcript = told(*answers)
    transcript.count(USAGE)
    return transcript


def test_a_chat_answer_is_its_choices_texts() -> None:
    body = {
        "choices": [
            {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"},
            {
                "index": 1,
                "message": {"content": None, "reasoning": "Hm."},
                "finish_reason": "length",
            },
            {"index": 2, "message": {"content": "x"}, "finish_reason": "stop", "stop_reason": "y"},
        ],
        "usage": USAGE,
    }
    got = read_answer("chat.completions", json.dumps(body).encode())
    assert got == counted(
        ("Hi", Choice("stop")), ("", Choice("length", None, "Hm.")), ("x", Choice("stop", "y"))
    )
    assert got.finish_reason == "stop"


def test_a_chat_stream_is_put_together_by_choice() -> None:
    stream = events(
        chat_chunk("", role="assistant"),
        chat_chunk("Hel"),
        chat_chunk("Yo", index=1),
        chat_chunk(None, index=2, reasoning="Let me "),
        chat_chunk("lo"),
        chat_chunk(None, index=2, reasoning="see.", finish="length"),
        chat_chunk(None, index=1, finish="length"),
        chat_chunk(None, finish="stop"),
        {"choices": [], "usage": USAGE},
        "[DONE]",
    )
    assert read_stream("chat.completions", [stream]) == counted(
        ("Hello", Choice("stop")),
        ("Yo", Choice("length")),
        ("", Choice("length", None, "Let me see.")),
    )


def test_tool_calls_are_merged_from_their_pieces() -> None:
    def call(index: int, **function: str) -> Any:
        return chat_chunk(None, tool_calls=[{"index": index, "function": function}])

    first = chat_chunk(None, tool_calls=[{"index": 0, "id": "c1", "function": {"name": "pay"}}])
    stream = events(first, call(0, arguments='{"a":'), call(1, name="go"), call(0, arguments="1}"))
    (choice,) = read_stream("chat.completions", [stream]).choices
    assert choice.tool_calls == (
        {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": '{"a":1}'}},
        {"id": None, "type": "function", "function": {"name": "go", "arguments": ""}},
    )
    whole = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "c1"}]}}]}
    answer = read_answer("chat.completions", json.dumps(whole).encode())
    assert answer == told(("", Choice(tool_calls=({"id": "c1"},))))


def test_each_choice_has_its_own_calls() -> None:
    piece = {"index": 0, "function": {"name": "pay", "arguments": "{}"}}
    stream = events(
        chat_chunk("No.", finish="stop"), chat_chunk(None, 1, "tool_calls", tool_calls=[piece])
    )
    first, second = read_stream("chat.completions", [stream]).choices
    assert (first.finish_reason, first.tool_calls) == ("stop", ())
    assert (second.finish_reason, len(second.tool_calls)) == ("tool_calls", 1)


@pytest.mark.parametrize(
    ("choices", "kept"),
    [
        ([Choice("stop")], False), ([], False), ([Choice()], False),
        ([Choice("stop"), Choice("length")], True), ([Choice("stop", "\n")], True),
        ([Choice("stop", reasoning="Hm.")], True), ([Choice("stop", tool_calls=({},))], True),
    ],
)  # fmt: skip
def test_only_what_a_finish_reason_does_not_say_is_kept(choices: list[Choice], kept: bool) -> None:
    assert Transcript([""] * len(choices), choices).told == (tuple(choices) if kept else ())


def test_plain_completions_are_read_whole_and_streamed() -> None:
    body = {"choices": [{"text": "once", "finish_reason": "length"}], "usage": USAGE}
    got = read_answer("completions", json.dumps(body).encode())
    assert got == counted(("once", Choice("length")))
    stream = events(
        {"choices": [{"index": 1, "text": "b"}]},
        {"choices": [{"index": 0, "text": "a", "finish_reason": "stop", "stop_reason": 7}]},
        "[DONE]",
    )
    assert read_stream("completions", [stream]) == told(("a", Choice("stop", 7)), ("b", Choice()))


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
    (choice,) = got.choices
    assert choice.reasoning == "hm"
    assert [call["name"] for call in choice.tool_calls] == ["pay"]


def test_a_response_that_was_cut_says_by_what() -> None:
    cut = {"incomplete_details": {"reason": "max_output_tokens"}}
    body = json.dumps({**responses_document("incomplete", "Hi"), **cut}).encode()
    (choice,) = read_answer("responses", body).choices
    assert (choice.finish_reason, choice.stop_reason) == ("incomplete", "max_output_tokens")


def test_a_streamed_response_that_breaks_off_keeps_its_thoughts_and_calls() -> None:
    def event(kind: str, **fields: Any) -> Any:
        return {"type": f"response.{kind}", "output_index": 1, **fields}

    call = {"type": "function_call", "name": "pay", "call_id": "c1", "arguments": ""}
    stream = events(
        event("output_item.added", output_index=0, item={"type": "reasoning", "id": "r"}),
        event("reasoning_text.delta", output_index=0, delta="Pay "),
        event("reasoning_text.delta", output_index=0, delta="it."),
        event("output_item.added", item=call),
        event("function_call_arguments.delta", delta='{"a"'),
        event("function_call_arguments.delta", delta=":1"),
        named=True,
    )
    (choice,) = read_stream("responses", [stream]).choices
    assert choice.reasoning == "Pay it."
    assert choice.tool_calls == ({**call, "arguments": '{"a":1'},)


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
    call = {"type": "tool_use", "name": "pay"}
    assert got == counted(("Hi", Choice("end_turn", None, None, (call,))))
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
    assert read_stream("messages", [stream]) == counted(("Hi", Choice("end_turn")))


def anthropic_call(*pieces: str) -> list[Any]:
    """A thought, a call whose input comes in pieces, and what ends both."""
    begin = [
        {"type": "thinking", "thinking": ""},
        {"type": "tool_use", "id": "t1", "name": "pay", "input": {}},
    ]
    return [
        {"type": "message_start", "message": {"usage": {"input_tokens": 7}}},
        {"type": "content_block_start", "index": 0, "content_block": begin[0]},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "Pay."},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": begin[1]},
        *(
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
            for piece in pieces
        ),
    ]


def test_a_call_streamed_as_anthropic_has_it_is_kept_with_its_input() -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}}
    stream = events(*anthropic_call('{"a":', " 1}"), end, {"type": "message_stop"}, named=True)
    got = read_stream("messages", [stream])
    call = {"type": "tool_use", "id": "t1", "name": "pay", "input": {"a": 1}}
    assert got.answers == [""]
    assert got.choices == [Choice("tool_use", None, "Pay.", (call,))]


def test_of_a_call_that_broke_off_its_input_is_kept_as_it_came() -> None:
    (choice,) = read_stream("messages", [events(*anthropic_call('{"a":'), named=True)]).choices
    begun = {"type": "tool_use", "id": "t1", "name": "pay", "input": {}, "partial_json": '{"a":'}
    assert choice == Choice(None, None, "Pay.", (begun,))


def test_a_text_between_two_calls_is_the_answer() -> None:
    blocks: list[Any] = [{"type": "tool_use", "name": "a"}, {"type": "text", "text": "Then "}]
    blocks += [{"type": "tool_use", "name": "b"}, {"type": "text", "text": "this."}]
    whole = {"content": blocks, "stop_reason": "stop_sequence", "stop_sequence": "END"}
    got = read_answer("messages", json.dumps(whole).encode())
    assert got.answers == ["Then this."]
    assert [call["name"] for call in got.choices[0].tool_calls] == ["a", "b"]
    assert got.choices[0].stop_reason == "END"


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
