"""Limits of what `/v1/responses` reads: a text, or items of the 30 kinds OpenAI's client knows.

The engine tries a misshapen item as every kind there is, which takes it up to 10 ms on its event
loop. So what has not plainly a common shape is tried here before, one item after the other, as the
engine will; few and small ones that fail are left to it, to say what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseReasoningItem,
)
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from pydantic import TypeAdapter, ValidationError

from server.door.parameters.bounds import Limits, refuse
from server.door.parameters.messages import PARTS, check_content, check_counts, check_words

ITEMS = 1_000
_VALUES = 2_000  # in an item that has to be tried
_MISSHAPEN = 4
_MISSHAPEN_VALUES = 64
_ROLES = ("user", "assistant", "system", "developer")
_PLAIN_KEYS = {"type", "role", "content"}


@dataclass(frozen=True, slots=True)
class Items:
    """A text, or items, most of them messages."""

    told: str = f"at most {ITEMS:,} items, {PARTS:,} parts in them"

    def check(self, value: Any, param: str, limits: Limits) -> None:
        """See `Bound`."""
        if isinstance(value, str):
            return
        check_counts(value, param, ITEMS, self.told)
        misshapen = 0
        for at, item in enumerate(value):
            where = f"{param}[{at}]"
            check_words(item, where)
            check_content(item.get("content"), f"{where}.content", limits)
            check_content(item.get("output"), f"{where}.output", limits)
            if _is_plain(item):
                continue
            if not _is_small(item, _VALUES):
                raise refuse(where, f"at most {_VALUES:,} values are taken in an item.")
            if not _is_known(item):
                misshapen += 1
                if misshapen > _MISSHAPEN or not _is_small(item, _MISSHAPEN_VALUES):
                    raise refuse(where, "this is no item OpenAI's API knows; look at its fields.")


def _is_plain(item: Mapping[str, Any]) -> bool:
    kind, content = item.get("type"), item.get("content")
    if kind in ("message", None):
        return item.keys() <= _PLAIN_KEYS and item.get("role") in _ROLES and _is_text(content)
    if kind == "function_call_output":
        words = (item.get("call_id"), item.get("output"))
        return len(item) == 3 and all(isinstance(word, str) for word in words)
    return False


def _is_text(content: Any) -> bool:
    return isinstance(content, str) or (
        isinstance(content, list)
        and all(
            isinstance(part, dict)
            and len(part) == 2
            and part.get("type") == "input_text"
            and isinstance(part.get("text"), str)
            for part in content
        )
    )


def _is_known(item: dict[str, Any]) -> bool:
    """Whether the engine takes it. Source: `ResponsesRequest.input_item_parsing` in
    vllm/entrypoints/openai/responses/protocol.py, 0.32."""
    kind = item.get("type")
    tried: list[Callable[[], Any]] = [lambda: _any_item().validate_python(_with_detail(item))]
    if kind == "function_call":
        tried.insert(0, lambda: ResponseFunctionToolCall(**item))
    elif kind == "reasoning":
        tried.insert(0, lambda: ResponseReasoningItem(**{"id": "rs", **item}))
    elif kind == "message" and item.get("role") == "assistant":
        tried.insert(0, lambda: ResponseOutputMessage(**_answered(item)))
    return any(_passes(attempt) for attempt in tried)


def _passes(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except (ValidationError, TypeError):
        return False
    return True


@cache
def _any_item() -> TypeAdapter[Any]:
    return TypeAdapter(ResponseInputItemParam | ResponseOutputItem)


def _with_detail(item: dict[str, Any]) -> dict[str, Any]:
    return _with_parts(item, "input_image", {"detail": "auto"})


def _answered(item: dict[str, Any]) -> dict[str, Any]:
    given = {"id": "msg", "status": "completed", **item}
    return _with_parts(given, "output_text", {"annotations": []})


def _with_parts(item: dict[str, Any], kind: str, usual: dict[str, Any]) -> dict[str, Any]:
    content = item.get("content")
    if not isinstance(content, list):
        return item
    parts = [
        {**usual, **part} if isinstance(part, dict) and part.get("type") == kind else part
        for part in content
    ]
    return {**item, "content": parts}


def _is_small(value: Any, most: int) -> bool:
    count, level = 0, [value]
    while level and count <= most:
        each = level.pop()
        inner = list(each.values()) if isinstance(each, dict) else each
        if isinstance(inner, list):
            count += len(inner)
            level.extend(inner)
    return count <= most
