"""A set of tools tried as vLLM's Hermes parser would have them called.

Source: `_hermes_style_structural_tag` in vllm/tool_parsers/structural_tag_registry.py, 0.32, with
the single blanks of `server.vllm.tool_parser`.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import xgrammar as xgr

from server.engine.grammars import ANY
from server.vllm.grammars.trial import Bench, Fault, Tried, said, try_grammar

_TAGS = (
    ('<tool_call>\n{"name": "', "}\n</tool_call>"),
    ('<tool_call>{"name": "', "}</tool_call>"),
)


def try_tools(bench: Bench, text: str) -> Tried:
    """All of them together, those at fault with any arguments. Raises Fault."""
    tools: list[tuple[str, Any]] = json.loads(text)
    faults: dict[int, str] = {}
    for at, tool in enumerate(tools):
        try:
            said(partial(xgr.Grammar.from_structural_tag, _tag([tool])))
        except Fault as fault:
            faults[at] = str(fault)
    while True:
        held = [(name, ANY if at in faults else it) for at, (name, it) in enumerate(tools)]
        tried = try_grammar(bench, "structural_tag", _tag(held))
        stuck = [
            at for at, (name, _) in enumerate(held) if not tried.goes_on(_TAGS[0][0] + _rest(name))
        ]
        if not stuck:
            return Tried(tried.compiled, tried.size_bytes, faults)
        if faults.keys() >= set(stuck):
            raise Fault("no call of these tools can be written")
        faults |= dict.fromkeys(stuck, "no arguments fit it")


def _tag(tools: list[tuple[str, Any]]) -> str:
    tags = [
        {
            "type": "tag",
            "begin": begin + _rest(name),
            "content": {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": 1},
            "end": end,
        }
        for name, schema in tools
        for begin, end in _TAGS
    ]
    triggered = {"type": "triggered_tags", "triggers": ["<tool_call>"], "tags": tags}
    return json.dumps({"type": "structural_tag", "format": triggered})


def _rest(name: str) -> str:
    return f'{name}", "arguments": '
