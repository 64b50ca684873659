"""Tools as the four endpoints offer them: their limits, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from core.errors import Invalid
from server.door.parameters.bounds import Limits, refuse

TOOLS = 256
NAME_CHARS = 128
SCHEMA_BYTES = 64_000
TOOLS_BYTES = 500_000
_AMISS = frozenset('"\\<>')


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. `schema` None: any arguments."""

    name: str
    schema: Any
    strict: bool
    where: str
    field: str = ""  # of the schema

    @property
    def param(self) -> str:
        """Where its schema stands."""
        return f"{self.where}.{self.field}"


@dataclass(frozen=True, slots=True)
class Tools:
    """A list of tools."""

    told: str = (
        f"at most {TOOLS}, of {SCHEMA_BYTES:,} bytes each, {TOOLS_BYTES:,} together; names of "
        f"{NAME_CHARS} printable characters"
    )

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if not isinstance(value, list):
            raise refuse(param, "must be a list.")
        if len(value) > TOOLS:
            raise refuse(param, f"at most {TOOLS} tools are taken; offer those that fit the task.")
        sizes = [len(msgspec.json.encode(tool)) for tool in value]
        if max(sizes, default=0) > SCHEMA_BYTES:
            where = f"{param}[{sizes.index(max(sizes))}]"
            raise refuse(where, f"a tool may have {SCHEMA_BYTES:,} bytes; shorten its schema.")
        if sum(sizes) > TOOLS_BYTES:
            raise refuse(param, f"at most {TOOLS_BYTES:,} bytes are taken; offer fewer tools.")
        for tool in _read(value, param):
            _check_name(tool.name, f"{tool.where}.name")


def offered(body: Mapping[str, Any]) -> list[Tool]:
    """The tools of a body within limits, in their order; none where no call is wanted."""
    if body.get("tool_choice") == "none":
        return []
    return [*_read(body.get("tools") or (), "tools"), *_added(body.get("messages"))]


def check_choice(body: Mapping[str, Any]) -> None:
    """Raises Invalid for a choice of a tool that is not offered."""
    choice = body.get("tool_choice")
    tools = body.get("tools")
    if not isinstance(choice, str | dict) or choice in ("none", "auto"):
        return
    names = {tool.name for tool in [*_read(tools or (), "tools"), *_added(body.get("messages"))]}
    if isinstance(choice, str) or choice.get("type") == "any":
        if not tools and not names:
            raise Invalid(
                "tool_choice wants a call, but no tools are offered: send tools, or leave "
                "tool_choice out.",
                param="tool_choice",
            )
        return
    name = _chosen(choice)
    local = {name.rpartition("__")[2] for name in names}
    if name is not None and name not in names | local:
        raise Invalid(
            f"tool_choice names '{name[:80]}', which is not among the tools offered.",
            param="tool_choice",
        )


def without_empty_tools(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body, where an empty list of tools, which the engine refuses, counts as none."""
    if body.get("tools") not in (None, []):
        return dict(body)
    left_out = ("tools", "tool_choice", "parallel_tool_calls")
    return {name: value for name, value in body.items() if name not in left_out}


def _chosen(choice: Mapping[str, Any]) -> str | None:
    if choice.get("type") not in ("function", "custom", "tool", None):
        return None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else choice.get("name")
    if not isinstance(name, str):
        raise Invalid("tool_choice must name a tool.", param="tool_choice")
    return name


def _read(tools: Any, param: str, prefix: str = "") -> Iterator[Tool]:
    for at, tool in enumerate(tools):
        where = f"{param}[{at}]"
        if not isinstance(tool, dict):
            raise refuse(where, "must be an object.")
        if tool.get("type") == "namespace" and isinstance(tool.get("tools"), list):
            name = _name_of(tool, where)
            yield from _read(tool["tools"], f"{where}.tools", f"{name}__")
        elif "function" in tool:
            yield _function(tool["function"], f"{where}.function", "parameters")
        elif "input_schema" in tool:
            yield _function(tool, where, "input_schema")
        elif tool.get("type") == "function":
            found = _function(tool, where, "parameters")
            yield replace(found, name=prefix + found.name)
        elif tool.get("type") == "custom":
            yield Tool(prefix + _name_of(tool, where), None, False, where)


def _added(messages: Any) -> Iterator[Tool]:
    """Tools that Anthropic's messages define in the midst of a conversation."""
    for at, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            change = part.get("tool") if isinstance(part, dict) else None
            if isinstance(change, dict) and isinstance(change.get("definition"), dict):
                yield _function(change["definition"], f"messages[{at}]", "input_schema")


def _function(function: Any, where: str, schema: str) -> Tool:
    if not isinstance(function, dict):
        raise refuse(where, "must be an object.")
    parameters = function.get(schema)
    if schema == "input_schema" and isinstance(parameters, dict):
        parameters = {**parameters, "type": parameters.get("type", "object")}
    return Tool(
        _name_of(function, where), parameters, function.get("strict") is True, where, schema
    )


def _name_of(function: Mapping[str, Any], where: str) -> str:
    name = function.get("name")
    if not isinstance(name, str):
        raise refuse(f"{where}.name", "must be a string.")
    return name


def _check_name(name: str, param: str) -> None:
    if not 0 < len(name) <= NAME_CHARS or not name.isprintable() or _AMISS & set(name):
        raise refuse(
            param,
            f"a tool's name has 1 to {NAME_CHARS} printable characters, none of them "
            f"{' '.join(sorted(_AMISS))}.",
        )
