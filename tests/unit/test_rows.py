"""Rows of preference data, form by form: what each states, and what states nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid
from feedback.rows import Row, RowKind, read_row

ASK = {"role": "user", "content": "What color is the sky?"}
BLUE = {"role": "assistant", "content": "It is blue."}
GREEN = {"role": "assistant", "content": "It is green."}
PAIR = ("It is blue.", "It is green.")

PAIRS: dict[str, dict[str, Any]] = {
    "texts with a prompt": {"prompt": ASK["content"], "chosen": PAIR[0], "rejected": PAIR[1]},
    "space around them": {"prompt": " What color is the sky?\n", "chosen": " It is blue."}
    | {"rejected": "\nIt is green. "},
    "messages with a prompt": {"prompt": [ASK], "chosen": [BLUE], "rejected": [GREEN]},
    "a talk, answers that are texts": {"prompt": [ASK], "chosen": PAIR[0], "rejected": PAIR[1]},
    "messages that share a prompt": {"chosen": [ASK, BLUE], "rejected": [ASK, GREEN]},
    "a text as prompt beside whole talks": {"prompt": "What color is the sky?"}
    | {"chosen": [ASK, BLUE], "rejected": [ASK, GREEN]},
    "OpenAI's preference form": {
        "input": {"messages": [ASK], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [BLUE],
        "non_preferred_output": [GREEN],
    },
    "parts of text": {
        "prompt": [{"role": "user", "content": [{"type": "text", "text": ASK["content"]}]}],
        "chosen": [{**BLUE, "content": [{"type": "text", "text": PAIR[0]}]}],
        "rejected": [{**GREEN, "name": "bot", "tool_calls": None}],
    },
    "columns of no form": {"prompt": [ASK], "chosen": [BLUE], "rejected": [GREEN]}
    | {"id": 7, "score_chosen": 9.5, "models": ["a", "b"]},
}


@pytest.mark.parametrize("sent", PAIRS.values(), ids=PAIRS)
def test_every_form_of_a_pair_states_the_same(sent: dict[str, Any]) -> None:
    assert read_row(sent, "pairs") == Row((ASK,), PAIR)


def test_texts_are_texts_to_go_on_from_where_that_is_asked_for() -> None:
    sent = PAIRS["space around them"]
    expected = Row(sent["prompt"], (sent["chosen"], sent["rejected"]))
    assert read_row(sent, "pairs", plain=True) == expected


def test_texts_that_share_their_beginning_are_cut_as_trl_cuts_them() -> None:
    sent = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    assert read_row(sent, "pairs") == Row("The sky is", (" blue.", " green."))


@given(st.text("ab ", min_size=1), st.text("ab "), st.text("ab "))
def test_texts_are_cut_so_that_they_can_be_joined_again(head: str, one: str, other: str) -> None:
    sent = {"chosen": head + one, "rejected": head + other}
    try:
        row = read_row(sent, "pairs")
    except Invalid:
        return
    assert isinstance(row.prompt, str)
    assert [row.prompt + answer for answer in row.answers] == [sent["chosen"], sent["rejected"]]


LABELS: dict[str, tuple[dict[str, Any], bool]] = {
    "texts": ({"prompt": ASK["content"], "completion": PAIR[0], "label": False}, False),
    "messages": ({"prompt": [ASK], "completion": [BLUE], "label": True}, True),
    "a whole talk": ({"completion": [ASK, BLUE], "label": False}, False),
    "OpenAI's chat fine-tuning": ({"messages": [ASK, BLUE]}, True),
    "the same, judged": ({"messages": [ASK, BLUE], "label": False}, False),
}


@pytest.mark.parametrize(("sent", "good"), LABELS.values(), ids=LABELS)
def test_every_form_of_a_label_states_the_same(sent: dict[str, Any], good: bool) -> None:
    assert read_row(sent, "labels") == Row((ASK,), (PAIR[0],), good)


def test_earlier_turns_are_part_of_the_prompt() -> None:
    before = [{"role": "system", "content": "Be brief."}, ASK, BLUE, ASK]
    row = read_row({"messages": [*before, GREEN]}, "labels")
    assert (row.prompt, row.answers) == (tuple(before), (PAIR[1],))


def test_whose_judgement_it_is_may_be_said() -> None:
    assert read_row({**PAIRS["messages with a prompt"], "user": "ann"}, "pairs").user == "ann"


TOOL = {"role": "tool", "content": "4"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
TEXTS = PAIRS["texts with a prompt"]
OPENAI = PAIRS["OpenAI's preference form"]
BAD: list[tuple[RowKind, Any, str, str | None]] = [
    ("pairs", [1], "one JSON object", None),
    ("pairs", {}, "send `chosen`", "chosen"),
    ("pairs", {"prompt": "a", "chosen": "b"}, "send `chosen`", "chosen"),
    ("pairs", {"messages": [ASK, BLUE]}, "attune import labels", None),
    ("pairs", {**TEXTS, "rejected": " It is blue. "}, "same text", "rejected"),
    ("pairs", {**TEXTS, "chosen": " "}, "empty", "chosen"),
    ("pairs", {**TEXTS, "prompt": " "}, "send a text", "prompt"),
    ("pairs", {**TEXTS, "prompt": 3}, "send a text", "prompt"),
    ("pairs", {**TEXTS, "chosen": 3}, "chat messages", "chosen"),
    ("pairs", {**TEXTS, "chosen": "x" * 100_001}, "at most 100,000", "chosen"),
    ("pairs", {**TEXTS, "chosen": "a\0b"}, "NUL", "chosen"),
    ("pairs", {**TEXTS, "chosen": "a\ud800"}, "UTF-16", "chosen"),
    ("pairs", {**TEXTS, "user": 3}, "string", "user"),
    ("pairs", {**TEXTS, "user": "a\nb"}, "control", "user"),
    ("pairs", {"chosen": "Yes.", "rejected": "No."}, "do not begin alike", "prompt"),
    ("pairs", {"chosen": "Yes.", "rejected": "Yes. No."}, "empty", "chosen"),
    ("pairs", {"chosen": [ASK], "rejected": [ASK, GREEN]}, "exactly one", "chosen"),
    ("pairs", {"chosen": [BLUE], "rejected": [GREEN]}, "no message before", "chosen"),
    (
        "pairs",
        {"chosen": [ASK, BLUE, ASK, BLUE], "rejected": [ASK, GREEN]},
        "one message",
        "chosen",
    ),
    ("pairs", {"prompt": [ASK, BLUE], "chosen": "a", "rejected": "b"}, "assistant's", "prompt"),
    ("pairs", {"prompt": [], "chosen": "a", "rejected": "b"}, "no message", "prompt"),
    ("pairs", {"prompt": [ASK, CALL, TOOL], "chosen": "a", "rejected": "b"}, "tools", "prompt"),
    ("pairs", {"prompt": [{"role": "x"}], "chosen": "a", "rejected": "b"}, "role", "prompt"),
    ("pairs", {"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, "text", "prompt"),
    ("pairs", {**OPENAI, "input": [ASK]}, "`messages`", "input"),
    ("pairs", {**OPENAI, "input": {"messages": [ASK], "tools": [1]}}, "tools", "input.tools"),
    ("pairs", {**OPENAI, "preferred_output": []}, "exactly one", "preferred_output"),
    ("pairs", {**OPENAI, "non_preferred_output": "x"}, "list", "non_preferred_output"),
    ("pairs", {**TEXTS, "deep": json.loads("[" * 150 + "]" * 150)}, "levels", "deep"),
    ("labels", {}, "send `prompt`", "completion"),
    ("labels", TEXTS, "attune import pairs", None),
    ("labels", OPENAI, "attune import pairs", None),
    ("labels", {"prompt": "a", "completion": "b"}, "true for a good", "label"),
    ("labels", {"prompt": "a", "completion": "b", "label": "good"}, "true for a good", "label"),
    ("labels", {"prompt": "a", "completion": "b", "label": 1}, "true for a good", "label"),
    ("labels", {"prompt": "a", "completion": "", "label": True}, "empty", "completion"),
    ("labels", {"completion": "b", "label": True}, "send a text", "prompt"),
    ("labels", {"messages": []}, "exactly one", "messages"),
    ("labels", {"messages": [BLUE]}, "no message", "messages"),
    ("labels", {"messages": [ASK]}, "exactly one", "messages"),
    ("labels", {"messages": "hello"}, "list", "messages"),
]


@pytest.mark.parametrize(("kind", "sent", "told", "param"), BAD, ids=range(len(BAD)))
def test_a_row_that_states_nothing_is_refused_by_its_field(
    kind: RowKind, sent: Any, told: str, param: str | None
) -> None:
    with pytest.raises(Invalid) as refused:
        read_row(sent, kind)
    assert told in refused.value.message
    assert refused.value.param == param


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["prompt", "chosen", "rejected", "completion", "label", "messages"])
                | st.sampled_from(["input", "preferred_output", "role", "content", "user"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    ),
    st.sampled_from(["pairs", "labels"]),
    st.booleans(),
)
def test_whatever_is_sent_is_a_row_or_refused(sent: Any, kind: RowKind, plain: bool) -> None:
    try:
        row = read_row(sent, kind, plain=plain)
    except Invalid:
        return
    assert all(answer.strip() for answer in row.answers)
    assert len(row.digest) == 32


def test_rows_that_state_the_same_have_one_digest_and_others_another() -> None:
    same = {read_row(sent, "pairs").digest for sent in PAIRS.values()}
    assert len(same) == 1
    swapped = {"prompt": [ASK], "chosen": [GREEN], "rejected": [BLUE]}
    named = {**TEXTS, "user": "ann"}
    labels = [read_row(sent, "labels").digest for sent, _ in LABELS.values()]
    others = [read_row(swapped, "pairs").digest, read_row(named, "pairs").digest]
    assert len({*same, *others, *labels}) == 5
