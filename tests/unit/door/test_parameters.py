"""What a request may set, and how far: the table of parameters held to bodies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Invalid
from server.door.parameters.bounds import Flag, Limits, Object, Scalar
from server.door.parameters.check import VALUES, check, told
from server.door.parameters.grammars import wanted
from server.door.parameters.table import TABLE
from server.door.parameters.tools import offered, without_empty_tools

CHAT, COMPLETIONS, RESPONSES, MESSAGES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)
LIMITS = Limits(max_model_len=1024)
HI = [{"role": "user", "content": "Hi"}]
LONG = "x" * 1_025
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TEXT = {"type": "text", "text": "a"}
ROOT = Path(__file__).parents[3]


def refused(path: str, limits: Limits = LIMITS, /, **body: Any) -> str:
    """The field that is named, with a message that tells what to do."""
    with pytest.raises(Invalid) as told:
        check(path, body, limits)
    assert told.value.param
    assert len(told.value.message) < 700
    return told.value.param


def url(kind: str, where: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": kind, kind: {"url": where}}]}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HI, "n": 8, "temperature": 0.5, "stop": ["a", "b"], "seed": None}),
        (CHAT, {"messages": HI * 2_000}),
        (CHAT, {"messages": [{"role": "user", "content": [TEXT] * 4_000}]}),
        (CHAT, {"messages": [{"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "x"}]}),
        (CHAT, {"messages": url("image_url", "data:image/png;base64,AAAA")}),
        (CHAT, {"messages": HI, "tools": [TOOL] * 128, "tool_choice": "required"}),
        (CHAT, {"messages": HI, "tools": [TOOL], "tool_choice": TOOL}),
        (CHAT, {"messages": HI, "logprobs": True, "top_logprobs": 20}),
        (CHAT, {"messages": HI, "logit_bias": {str(i): -100 for i in range(1_024)}}),
        (CHAT, {"messages": HI, "stream_options": {"include_usage": True, "obfuscate": "x"}}),
        (CHAT, {"messages": HI, "structured_outputs": {"choice": ["yes", "no"]}}),
        (CHAT, {"messages": HI, "priority": 0, "kv_transfer_params": {}, "chat_template": None}),
        (CHAT, {"messages": HI, "sent_by_another_client": {"x": [LONG]}}),
        (COMPLETIONS, {"prompt": "Once"}),
        (COMPLETIONS, {"prompt": [1, 2, 3], "logprobs": 5, "echo": True}),
        (COMPLETIONS, {"prompt": ["a"] * 128}),
        (COMPLETIONS, {"prompt": [[1] * 1_000] * 128}),
        (COMPLETIONS, {"prompt": "a", "n": 128.0}),
        (COMPLETIONS, {"prompt": "a", "prompt_logprobs": 1, "bad_words": ["word"] * 128}),
        (RESPONSES, {"input": "Hi", "tools": [{"type": "function", "name": "f"}]}),
        (RESPONSES, {"input": HI * 1_000}),
        (RESPONSES, {"input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x"},
            {"type": "message", "role": "assistant",
             "content": [{"type": "output_text", "text": "b"}]}] * 50}),
        (MESSAGES, {"messages": HI, "system": [{"type": "text", "text": "Be brief"}],
                    "tools": [{"name": "f", "input_schema": {}}],
                    "tool_choice": {"type": "tool", "name": "f"}}),
        ("/tokenize", {"prompt": "x" * 262_144}),
        ("/detokenize", {"tokens": [0] * 262_144}),
        ("/v1/messages/count_tokens", {"messages": HI}),
    ],
)  # fmt: skip
def test_what_clients_honestly_ask_for_passes(path: str, body: dict[str, Any]) -> None:
    check(path, {"model": "base", **body}, LIMITS)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": HI * 2_001}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": ["a"] * 4_001}]}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "content": ["a"] * 4_001}]}]}, "messages"),
        (CHAT, {"messages": "Hi"}, "messages"),
        (CHAT, {"messages": [5]}, "messages[0]"),
        (CHAT, {"messages": [*HI, {"role": 5}]}, "messages[1].role"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (CHAT, {"messages": [{"role": "user", "refusal": 5}]}, "messages[0].refusal"),
        (CHAT, {"messages": [{"role": "user", "tool_calls": 5}]}, "messages[0].tool_calls"),
        (CHAT, {"messages": HI, "n": 129}, "n"),
        (CHAT, {"messages": HI, "n": "5"}, "n"),
        (CHAT, {"messages": HI, "n": True}, "n"),
        (CHAT, {"messages": HI, "n": 0}, "n"),
        (CHAT, {"messages": HI, "n": 10**30}, "n"),
        (CHAT, {"messages": HI, "n": 11, "use_beam_search": True}, "n"),
        (CHAT, {"messages": HI, "use_beam_search": "yes"}, "use_beam_search"),
        (CHAT, {"messages": HI, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"messages": HI, "top_logprobs": -1}, "top_logprobs"),
        (CHAT, {"messages": HI, "n": 100, "top_logprobs": 2}, "top_logprobs"),
        (CHAT, {"messages": HI, "bad_words": ["x"] * 129}, "bad_words"),
        (CHAT, {"messages": HI, "bad_words": ["x" * 257]}, "bad_words"),
        (CHAT, {"messages": HI, "bad_words": ["x" * 256] * 33}, "bad_words"),
        (CHAT, {"messages": HI, "bad_words": [5]}, "bad_words"),
        (CHAT, {"messages": HI, "stop": LONG}, "stop"),
        (CHAT, {"messages": HI, "stop": ["x"] * 17}, "stop"),
        (CHAT, {"messages": HI, "stop_token_ids": [1] * 129}, "stop_token_ids"),
        (CHAT, {"messages": HI, "stop_token_ids": ["1"]}, "stop_token_ids"),
        (CHAT, {"messages": HI, "logit_bias": {str(i): 1 for i in range(1_025)}}, "logit_bias"),
        (CHAT, {"messages": HI, "logit_bias": {"1": {}}}, "logit_bias"),
        (CHAT, {"messages": HI, "allowed_token_ids": [1] * 16_385}, "allowed_token_ids"),
        (CHAT, {"messages": HI, "temperature": [1]}, "temperature"),
        (CHAT, {"messages": HI, "seed": "1" * 300}, "seed"),
        (CHAT, {"messages": HI, "priority": -1}, "priority"),
        (CHAT, {"messages": HI, "chat_template": "{{ 1 }}"}, "chat_template"),
        (CHAT, {"messages": HI, "chat_template_kwargs": {"x": "y" * 20_000}},
         "chat_template_kwargs"),
        (CHAT, {"messages": HI, "chat_template_kwargs": {"chat_template": "x"}},
         "chat_template_kwargs.chat_template"),
        (CHAT, {"messages": HI, "kv_transfer_params": {"x": 1}}, "kv_transfer_params"),
        (CHAT, {"messages": HI, "vllm_xargs": {"kv_transfer_params": "x"}},
         "vllm_xargs.kv_transfer_params"),
        (CHAT, {"messages": HI, "mm_processor_kwargs": {"x": 1}}, "mm_processor_kwargs"),
        (CHAT, {"messages": HI, "media_io_kwargs": {"x": {}}}, "media_io_kwargs"),
        (CHAT, {"messages": HI, "stream_options": {"include_usage": "no"}},
         "stream_options.include_usage"),
        (CHAT, {"messages": HI, "stream_options": []}, "stream_options"),
        (CHAT, {"messages": HI, "repetition_detection": {"max_pattern_size": 10**9}},
         "repetition_detection.max_pattern_size"),
        (CHAT, {"messages": HI, "documents": [[]] * 200_000}, "documents"),
        (CHAT, {"messages": HI, "documents": [{}] * (VALUES + 1)}, "documents"),
        (CHAT, {"messages": HI, "structured_outputs": {"choice": ["x" * 1_000] * 1_000}},
         "structured_outputs.choice"),
        (CHAT, {"messages": HI, "structured_outputs": {"choice": ["x" * 500] * 500}},
         "structured_outputs.choice"),
        (CHAT, {"messages": HI, "structured_outputs": {"regex": "a" * 5_000}},
         "structured_outputs.regex"),
        (CHAT, {"messages": HI, "structured_outputs": {"grammar": "a" * 65_000}},
         "structured_outputs.grammar"),
        (CHAT, {"messages": HI, "structured_outputs": "x"}, "structured_outputs"),
        (CHAT, {"messages": HI, "response_format": {"type": "x" * 65_000}}, "response_format"),
        (CHAT, {"messages": url("image_url", "http://169.254.169.254/latest")},
         "messages[0].content.image_url"),
        (CHAT, {"messages": url("video_url", "file:///etc/passwd")},
         "messages[0].content.video_url"),
        (CHAT, {"messages": [{"role": "user", "content": [{"image_url": "https://x.example/a"}]}]},
         "messages[0].content.image_url"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "uuid": "x"}]}]},
         "messages[0].content.uuid"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_embeds"}]}]},
         "messages[0].content"),
        (COMPLETIONS, {"prompt": ["a"] * 129}, "prompt"),
        (COMPLETIONS, {"prompt": ["a"] * 100, "n": 2}, "n"),
        (COMPLETIONS, {"prompt": [1] * 262_145}, "prompt"),
        (COMPLETIONS, {"prompt": [-1] * 200_000}, "prompt"),
        (COMPLETIONS, {"prompt": [[1, "x"]]}, "prompt"),
        (COMPLETIONS, {"prompt": {"x": 1}}, "prompt"),
        (COMPLETIONS, {"prompt_embeds": "AAAA"}, "prompt_embeds"),
        (COMPLETIONS, {"prompt": "a", "logprobs": 21}, "logprobs"),
        (COMPLETIONS, {"prompt": "a", "prompt_logprobs": -1}, "prompt_logprobs"),
        (RESPONSES, {"input": HI * 1_001}, "input"),
        (RESPONSES, {"input": [{"type": "zz"}] * 300}, "input[4]"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "zz"}]}] * 9}, "input[4]"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "zz"}] * 99}]}, "input[0]"),
        (RESPONSES, {"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": "http://10.0.0.1/"}]}]},
         "input[0].content.image_url"),
        (RESPONSES, {"input": [{"role": "user", "content": [
            {"type": "input_file", "file_url": "http://10.0.0.1/"}]}]},
         "input[0].content.file_url"),
        (MESSAGES, {"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}]}]},
         "messages[0].content.url"),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [
            {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}]}]}]},
         "messages[0].content.content.url"),
        (MESSAGES, {"messages": HI, "system": [{"type": "text", "text": 5}]}, "system.text"),
        ("/tokenize", {"prompt": "x" * 262_145}, "prompt"),
        ("/tokenize", {"messages": HI * 2_001}, "messages"),
        ("/tokenize", {"messages": HI, "chat_template": "{{ 1 }}"}, "chat_template"),
        ("/detokenize", {"tokens": [0] * 262_145}, "tokens"),
        ("/detokenize", {"tokens": [-5]}, "tokens"),
        ("/detokenize", {"tokens": 5}, "tokens"),
        ("/v1/messages/count_tokens", {"messages": HI * 2_001}, "messages"),
    ],
)  # fmt: skip
def test_what_would_cost_the_others_is_refused_and_named(
    path: str, body: dict[str, Any], param: str
) -> None:
    assert refused(path, model="base", **body) == param


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([TOOL] * 257, "tools"),
        ("x", "tools"),
        ([5], "tools[0]"),
        ([{"type": "function", "function": None}], "tools[0].function"),
        ([{"type": "function", "function": {}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": ""}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "x" * 129}}], "tools[0].function.name"),
        ([TOOL, {"type": "function", "function": {"name": 'a"b'}}], "tools[1].function.name"),
        ([{"type": "function", "function": {"name": "a\nb"}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "</tool_call>"}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "f", "description": "x" * 64_001}}],
         "tools[0]"),
        ([{"type": "function", "function": {"name": "f", "description": "x" * 60_000}}] * 9,
         "tools"),
        ([{"name": "a\\b", "input_schema": {}}], "tools[0].name"),
    ],
)  # fmt: skip
def test_tools_that_cannot_be_offered_are_named(tools: Any, param: str) -> None:
    assert refused(CHAT, messages=HI, tools=tools) == param


@pytest.mark.parametrize(
    ("path", "tools", "choice"),
    [
        (CHAT, [TOOL], {"type": "function", "function": {"name": "g"}}),
        (CHAT, [TOOL], {"type": "function"}),
        (CHAT, [], {"type": "function", "function": {"name": "f"}}),
        (CHAT, [], "required"),
        (CHAT, None, "required"),
        (RESPONSES, [{"type": "function", "name": "f"}], {"type": "function", "name": "g"}),
        (MESSAGES, [{"name": "f", "input_schema": {}}], {"type": "tool", "name": "g"}),
        (MESSAGES, [], {"type": "any"}),
    ],
)
def test_a_choice_of_no_tool_that_is_offered_is_refused(path: str, tools: Any, choice: Any) -> None:
    assert refused(path, tools=tools, tool_choice=choice) == "tool_choice"


def test_tools_are_read_alike_on_every_endpoint() -> None:
    schema = {"type": "object"}
    chat = {"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}
    flat = {"type": "function", "name": "f", "parameters": schema, "strict": True}
    anthropic = {"name": "f", "input_schema": {}, "strict": True}
    for tool in (chat, flat, anthropic):
        (read,) = offered({"tools": [tool]})
        assert (read.name, read.schema, read.strict) == ("f", schema, True)
    (spaced,) = offered({"tools": [{"type": "namespace", "name": "ns", "tools": [flat]}]})
    assert (spaced.name, spaced.param) == ("ns__f", "tools[0].tools[0].parameters")
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": anthropic}}
    (later,) = offered({"messages": [{"role": "system", "content": [added]}]})
    assert later.name == "f"
    assert offered({"tools": [chat], "tool_choice": "none"}) == []


def test_media_may_come_from_elsewhere_only_where_the_operator_said_from_where() -> None:
    allowed = Limits(max_model_len=1024, fetches_media=True)
    check(CHAT, {"messages": url("image_url", "https://images.example/a.png")}, allowed)
    assert refused(CHAT, allowed, messages=url("image_url", "file:///etc/passwd"))
    assert refused(CHAT, allowed, messages=url("image_url", "ftp://images.example/"))


def test_log_probabilities_of_a_prompt_are_fewer_where_the_context_is_long() -> None:
    body = {"prompt": "a", "prompt_logprobs": 20}
    check(COMPLETIONS, body, Limits(max_model_len=2_048))
    long = Limits(max_model_len=131_072)
    assert refused(COMPLETIONS, long, **body) == "prompt_logprobs"
    assert refused(COMPLETIONS, long, prompt="a", echo=True, logprobs=5) == "prompt_logprobs"
    check(COMPLETIONS, {"prompt": "a", "echo": True, "logprobs": 1}, long)


def test_however_deep_or_wide_a_value_is_it_is_refused_without_following_it() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for value in (deep, json.loads("[" + "[[]]," * 40_000 + "[]]")):
        assert refused(CHAT, messages=HI, documents=value) == "documents"


NAMES = sorted({name for table in TABLE.values() for name in table})
WORDS = [
    "type",
    "role",
    "content",
    "function",
    "name",
    "tools",
    "schema",
    "format",
    "tool",
    "url",
    "definition",
    "input_schema",
    "json_schema",
    "image_url",
    "source",
    "text",
    "x",
]
KINDS = [
    "function",
    "namespace",
    "message",
    "text",
    "image",
    "tool_result",
    "json_schema",
    "any",
    "structural_tag",
    "custom",
    "function_call",
    "reasoning",
    "input_image",
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=120, deadline=None, derandomize=True)
@given(path=st.sampled_from(sorted(TABLE)), body=st.dictionaries(st.sampled_from(NAMES), JUNK))
def test_whatever_is_sent_passes_or_is_named(path: str, body: dict[str, Any]) -> None:
    """And what passes can be read for grammars and tools, and sent on."""
    try:
        check(path, body, LIMITS)
    except Invalid as refusal:
        if not refusal.param:
            raise
        return
    passed = told(path, body)
    wanted(passed)
    offered(passed)
    json.dumps(without_empty_tools(passed))


def test_null_stands_for_a_parameter_that_is_left_out() -> None:
    for path, table in TABLE.items():
        check(path, dict.fromkeys(table), LIMITS)


def test_the_reference_tells_every_limit() -> None:
    lines = (ROOT / "docs" / "limits.md").read_text().splitlines()
    at = lines.index("| parameter | limit |")
    end = next(n for n, line in enumerate(lines[at:], at) if not line.startswith("|"))
    assert lines[at + 2 : end] == documented()


def documented() -> list[str]:
    """One row per limit of each parameter, with its endpoints where there are several."""
    told: dict[str, dict[str, list[str]]] = {}
    for path, table in TABLE.items():
        for name, bound in table.items():
            inner = bound.fields if isinstance(bound, Object) else {"": bound}
            for field, limit in inner.items():
                if not isinstance(limit, Scalar | Flag):
                    full = f"{name}.{field}".rstrip(".")
                    told.setdefault(full, {}).setdefault(limit.told, []).append(path)
    return [
        f"| `{name}`{at(paths) if len(limits) > 1 else ''} | {limit} |"
        for name, limits in sorted(told.items())
        for limit, paths in limits.items()
    ]


def at(paths: list[str]) -> str:
    return f" at {', '.join(f'`{path}`' for path in paths)}"
