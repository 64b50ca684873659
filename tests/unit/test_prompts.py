"""Prompts as they are recorded: what the model read, in words, at every endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from server.answers.prompts import recorded_prompt
from server.chat_template import ChatTemplate

HI = {"role": "user", "content": "Hi"}
BRIEF = {"role": "system", "content": "Be brief"}
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
CALL = {"type": "tool_use", "id": "t1", "name": "pay", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "ok"}]}
BILLING = "x-anthropic-billing-header: cch=1;"


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


@pytest.mark.parametrize(
    ("endpoint", "body", "prompt"),
    [
        ("completions", {"prompt": "Once"}, "Once"),
        ("completions", {"prompt": ["a", "b"]}, ("a", "b")),
        ("completions", {"prompt": ["a"]}, ("a",)),
        ("completions", {"prompt": [1, 2]}, (1, 2)),
        ("completions", {"prompt": [[1, 2], [3]]}, ((1, 2), (3,))),
        ("completions", {"prompt": [["a"], 1]}, '[["a"],1]'),
        ("completions", {"prompt": [True]}, "[true]"),
        ("completions", {"prompt": []}, "[]"),
        ("completions", {}, "null"),
        ("chat.completions", {"messages": [HI]}, (HI,)),
        ("chat.completions", {"messages": [{"role": "user", "content": PARTS}]},
         ({"role": "user", "content": "a\nb"},)),
        ("chat.completions", {"messages": [{"role": "user", "content": ["a", "b"]}]},
         ({"role": "user", "content": "a\nb"},)),
        ("chat.completions", {"messages": [{"role": "user", "content": [PARTS[0], IMAGE]}]},
         ({"role": "user", "content": [PARTS[0], IMAGE]},)),
        ("chat.completions",
         {"messages": [{"role": "tool", "tool_call_id": "c", "content": PARTS}]},
         ({"role": "tool", "tool_call_id": "c", "content": "a\nb"},)),
        ("chat.completions",
         {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}]},
         ({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},)),
        ("chat.completions", {"messages": ["x", None, 5]}, ()),
        ("chat.completions", {}, ()),
        ("responses", {"input": "Hi", "instructions": "Be brief"}, (BRIEF, HI)),
        ("responses", {"input": ""}, ({"role": "user", "content": ""},)),
        ("responses", {"input": [HI]}, (HI,)),
        ("responses", {"input": [{"role": "developer", "content": PARTS}]},
         ({"role": "developer", "content": PARTS},)),
        ("responses", {"instructions": "Be brief"}, (BRIEF,)),
        ("messages", {"system": "Be brief", "messages": [HI]}, (BRIEF, HI)),
        ("messages", {"system": [text("Be "), text(BILLING), text("brief")], "messages": [HI]},
         (BRIEF, HI)),
        ("messages", {"system": [text(BILLING)], "messages": [HI]}, (HI,)),
        ("messages",
         {"messages": [HI, {"role": "system", "content": [text("Be "), text("brief")]}]},
         (HI, BRIEF)),
        ("messages", {"messages": [{"role": "user", "content": [text("Hi")]}]}, (HI,)),
        ("messages", {"messages": [{"role": "user", "content": [*PARTS, text("")]}]},
         ({"role": "user", "content": "a\nb"},)),
        ("messages", {"messages": [{"role": "assistant", "content": [text("So."), CALL]},
                                   {"role": "user", "content": [RESULT]}]},
         ({"role": "assistant", "content": [text("So."), CALL]},
          {"role": "user", "content": [RESULT]})),
    ],
)  # fmt: skip
def test_the_prompt_is_kept_as_the_model_read_it(
    endpoint: str, body: dict[str, Any], prompt: Any
) -> None:
    assert recorded_prompt(endpoint, body) == prompt


def test_a_template_that_reads_parts_gets_them_as_they_were_sent() -> None:
    reads_parts = ChatTemplate(joins_parts=False)
    asked = {"role": "user", "content": PARTS}
    result = {"role": "tool", "content": PARTS}
    read = recorded_prompt("chat.completions", {"messages": [asked, result]}, reads_parts)
    assert read == (asked, {"role": "tool", "content": "a\nb"})
    (alone,) = recorded_prompt(
        "messages", {"messages": [{"role": "user", "content": [text("Hi")]}]}, reads_parts
    )
    assert alone == HI


def test_a_developer_is_the_system_unless_the_template_knows_one() -> None:
    developer = {"role": "developer", "content": "Be brief", "tools": [1]}
    messages = [developer, HI]
    assert recorded_prompt("chat.completions", {"messages": messages}) == (BRIEF, HI)
    knows = ChatTemplate(knows_developer=True)
    assert recorded_prompt("chat.completions", {"messages": messages}, knows) == (developer, HI)


def test_a_developer_and_a_system_are_one_message_at_the_beginning() -> None:
    messages = [HI, BRIEF, {"role": "developer", "content": PARTS}, {"role": "system"}, HI]
    read = recorded_prompt("chat.completions", {"messages": messages})
    assert read == ({"role": "system", "content": "Be brief\n\na\nb"}, HI, HI)
    without = [HI, BRIEF]  # of nobody's making the order changes nothing
    assert recorded_prompt("chat.completions", {"messages": without}) == (HI, BRIEF)


def test_a_template_with_one_system_message_gets_all_of_anthropics_in_it() -> None:
    later = {"role": "system", "content": [text(" Be kind"), text(BILLING)]}
    body = {"system": "Be brief.", "messages": [HI, later]}
    one = {"role": "system", "content": "Be brief. Be kind"}
    assert recorded_prompt("messages", body, ChatTemplate(system_first=True)) == (one, HI)
