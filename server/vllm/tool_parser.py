"""A tool parser for vLLM 0.32: Hermes calls whose arguments follow their tool's JSON schema,
whatever the model would have written, with at most one blank between JSON tokens.

A schema that cannot be compiled is left out of it: the door has found out which ones those are, and
has refused what said it was strict.

vLLM's grammar for tool arguments allows any run of blanks, and a small model may write nothing else
until its tokens are spent. `--structured-outputs-config disable_any_whitespace` cures that for JSON
output but does not reach tool calls; that part can go once it does. Loaded by
`--tool-parser-plugin`, vLLM's own extension point.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vllm.tool_parsers.abstract_tool_parser import ToolParserManager
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel
from xgrammar.structural_tag import JSONSchemaFormat

from server.engine.grammars import ANY, UNCONSTRAINED

NAME = "attune_hermes"


@ToolParserManager.register_module(NAME)
class AttuneHermesToolParser(Hermes2ProToolParser):
    """vLLM's Hermes parser with tighter structural tags, for every tool unless the operator says
    otherwise by `--tool-strict-level`."""

    default_tool_strict_level = ToolStrictLevel.PARAMETER

    def get_structural_tag(self, *args: Any, **kwargs: Any) -> Any:
        """vLLM's tag, every JSON schema in it held to single blanks, or to any object if it cannot
        be compiled."""
        tag = super().get_structural_tag(*args, **kwargs)
        if tag is not None:
            unconstrained = UNCONSTRAINED.get()
            for schema in _schemas(tag.format):
                schema.max_whitespace_cnt = 1
                if schema.json_schema in unconstrained:
                    schema.json_schema = ANY
        return tag


def _schemas(node: Any) -> Iterator[JSONSchemaFormat]:
    """Every JSON schema below a structural tag's format."""
    if isinstance(node, JSONSchemaFormat):
        yield node
        return
    for name in ("content", "tags", "elements"):
        below = getattr(node, name, None)
        for child in below if isinstance(below, list) else [below]:
            if child is not None and not isinstance(child, str):
                yield from _schemas(child)
