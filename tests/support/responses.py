"""Responses as vLLM would give them, for the door's tests: they tell what they were asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def response(asked: Mapping[str, Any], *output: Mapping[str, Any]) -> dict[str, Any]:
    """The response object; without `output` one message that counts the items it was asked."""
    read = asked["input"]
    counted = f"I read {1 if isinstance(read, str) else len(read)}."
    return {
        "id": asked["request_id"],
        "object": "response",
        "status": "completed",
        "model": asked["model"],
        "instructions": asked.get("instructions"),
        "metadata": asked.get("metadata"),
        "previous_response_id": asked.get("previous_response_id"),
        "output": list(output) or [message(counted)],
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


def message(text: str) -> dict[str, Any]:
    """An item that says `text`."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": f"msg_{text}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def user(text: str) -> dict[str, Any]:
    """A user's message as plain input."""
    return {"role": "user", "content": text}
