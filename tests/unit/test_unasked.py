"""A stream as it is without the token counts we alone asked for."""

from __future__ import annotations

from server.answers.unasked import as_unasked

USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":3},"system_fingerprint":"f-1"}\n\n'
TEXT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
END = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
# As vLLM sends it when nobody asks for counts.
STOCK_END = END[:-3] + b',"system_fingerprint":"f-1"}\n\n'


def test_counts_are_taken_out_and_the_fingerprint_is_where_it_is_without_them() -> None:
    assert as_unasked(TEXT + END + USAGE + DONE, "f-1") == TEXT + STOCK_END + DONE
    assert [as_unasked(event, "f-1") for event in (TEXT, END, USAGE, DONE)] == [
        TEXT, STOCK_END, b"", DONE,
    ]  # fmt: skip


def test_every_choice_that_ends_carries_it() -> None:
    assert as_unasked(END + END, "f-1") == STOCK_END * 2


def test_an_engine_without_a_fingerprint_shows_none() -> None:
    assert as_unasked(END + USAGE, None) == END


def test_a_text_that_quotes_the_marks_is_left_alone() -> None:
    quoted = rb'{"choices":[],"usage":{"x":1},"finish_reason":"stop"}'.replace(b'"', rb"\"")
    event = TEXT.replace(b"Hi", quoted)
    assert as_unasked(event, "f-1") == event
